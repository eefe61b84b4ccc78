//! Flags as data: one record per flag, parsed and reported exactly as pflag does.
//!
//! A daemon states its flags as `static` tables of [`Flag`] in [`Section`]s ([`Command`]); `--help`, `--flagz`, the
//! comparison with upstream's list and the typed readers all come from that one table. Start reading at [`FlagSet`].
//! Does not do: persistent flags, subcommands, shell completion (upstream's daemons have none).
//! Upstream: github.com/spf13/pflag flag.go, k8s.io/component-base/cli/flag.

mod csv;
pub mod golden;
mod help;
pub mod sections;
mod set;
pub mod shared;
pub(crate) mod strconv;
mod value;

pub use help::terminal_width;
pub use set::{FlagError, FlagSet};
pub(crate) use strconv::format_float;
pub use value::{NamedCertKey, Value};

/// What a flag accepts. The variants are pflag's and component-base's value types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `--x`, `--x=false`; never `--x false`.
    Bool,
    /// Any text.
    String,
    /// 64-bit integer, shown as `int`.
    Int,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer, shown as `int`.
    Int64,
    /// Unsigned integer.
    Uint,
    /// 32-bit float.
    Float32,
    /// 64-bit float.
    Float64,
    /// Go duration.
    Duration,
    /// Comma-separated (CSV) and repeatable; the first use replaces the default.
    Strings,
    /// Repeatable, never split.
    StringArray,
    /// Comma-separated integers, repeatable.
    Int32Slice,
    /// pflag's `k=v,k2=v2`, CSV quoting.
    StringToString,
    /// component-base's `k=v,k2=v2`, spaces trimmed.
    MapStringString,
    /// component-base's `k=v`, one pair per use.
    MapNoSplit,
    /// component-base's `k=v,k2`: a key without a value has an empty one.
    ConfigurationMap,
    /// component-base's `k<v,k2<v2` (eviction thresholds).
    LangleMap,
    /// `k=true,k2=false`, checked at once.
    MapStringBool,
    /// `component:key=value` lists (feature gates) and HTTP headers.
    Multimap,
    /// IP address; empty leaves the default.
    Ip,
    /// `ip` or `ip:port` (kube-proxy's addresses).
    IpPort,
    /// Resource quantity, kept as text after a check of its form.
    Quantity,
    /// `low-high`, `low+size` or one port.
    PortRange,
    /// `cert,key[:name,...]`, repeatable.
    NamedCertKey,
    /// Kubelet's `numa:type=quantity;...`, repeatable.
    ReservedMemory,
    /// `key=value:effect,...`.
    Taints,
    /// `--version`, `--version=raw`, `--version=v1.2.3`.
    Version,
    /// `-v N`.
    Level,
    /// `pattern=N,...`.
    Vmodule,
    /// Free text whose help shows another type name (ProxyMode, LocalMode).
    Named(&'static str),
}

/// One flag. Build with [`flag`] and the `const` methods.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// One-letter form.
    pub short: Option<char>,
    /// Type.
    pub kind: Kind,
    /// Default as pflag prints it (`[a,b]` for lists, `5m0s` for durations).
    pub default: &'static str,
    /// Value meant when the flag stands alone; implied for `Bool` and `Version`.
    pub no_value: Option<&'static str>,
    /// Help text.
    pub help: &'static str,
    /// Printed once on standard error when the flag is used.
    pub deprecated: Option<&'static str>,
    /// Accepted but not listed.
    pub hidden: bool,
    /// Accepted for compatibility; here says why it changes nothing.
    pub no_effect: Option<&'static str>,
}

/// A flag record with nothing special about it.
pub const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    let no_value = match kind {
        Kind::Bool | Kind::Version => Some("true"),
        _ => None,
    };
    Flag {
        name,
        short: None,
        kind,
        default,
        no_value,
        help,
        deprecated: None,
        hidden: false,
        no_effect: None,
    }
}

impl Flag {
    /// Adds the one-letter form.
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// Marks the flag deprecated; `why` is upstream's text. pflag hides deprecated flags from help unless shown again.
    pub const fn deprecated(mut self, why: &'static str) -> Self {
        self.deprecated = Some(why);
        self
    }

    /// Leaves the flag out of help.
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// States that the flag is accepted but changes nothing in this implementation.
    pub const fn no_effect(mut self, why: &'static str) -> Self {
        self.no_effect = Some(why);
        self
    }

    /// Same flag, other default.
    pub const fn with_default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }
}

/// A titled group of flags; `title` as in "<title> flags:".
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Title without the word "flags".
    pub title: &'static str,
    /// Flags in any order; help sorts them by name.
    pub flags: &'static [Flag],
}

/// How the daemon lays out usage. The kubelet and kube-proxy print one flat list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// "<Name> flags:" sections wrapped to the terminal.
    Sections,
    /// One "Flags:" list in two-column raw form (kubelet, kube-proxy).
    Flat,
}

/// A daemon's command line.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Binary name.
    pub name: &'static str,
    /// What the daemon does; first paragraph of help.
    pub about: &'static str,
    /// Layout of usage.
    pub layout: Layout,
    /// Flag tables.
    pub sections: &'static [Section],
    /// Replacements of shared defaults: (flag, default).
    pub defaults: &'static [(&'static str, &'static str)],
}

impl Command {
    /// A fresh flag set holding the defaults.
    pub fn flag_set(&self) -> FlagSet {
        FlagSet::new(self)
    }
}

#[cfg(test)]
mod tests;
