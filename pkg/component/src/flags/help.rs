//! `--help` and usage text. Upstream: pflag FlagUsagesWrapped, component-base/cli/flag/sectioned.go.

use super::set::{Entry, FlagSet};
use super::value::Value;
use super::{Command, Kind, Layout};
use machinery::golang::quote;

/// Width of the terminal on standard output, 0 when it is none.
pub fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col))
}

impl Command {
    /// The usage text: the use line and every listed flag.
    pub fn usage(&self, flags: &FlagSet, columns: usize) -> String {
        let mut out = format!("Usage:\n  {} [flags]\n", self.name);
        match self.layout {
            Layout::Sections => {
                for (at, title) in flags.titles.iter().enumerate() {
                    let entries: Vec<&Entry> = flags.entries.iter().filter(|e| e.section == at).collect();
                    if entries.iter().any(|e| !e.flag.hidden) {
                        let wide = columns.checked_sub(24).filter(|c| *c > 0);
                        out.push_str(&format!("\n{title} flags:\n\n{}", list(entries, columns, wide)));
                    }
                }
            }
            Layout::Flat => {
                out.push_str(&format!("\nFlags:\n{}", list(flags.entries.iter().collect(), 0, None)));
            }
        }
        out
    }

    /// The text of `--help`.
    pub fn help(&self, flags: &FlagSet, columns: usize) -> String {
        format!("{}\n\n{}", self.about, self.usage(flags, columns))
    }
}

/// The name of the value shown after the flag's name.
fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "",
        Kind::String => "string",
        Kind::Int | Kind::Int64 => "int",
        Kind::Int32 => "int32",
        Kind::Uint => "uint",
        Kind::Float32 => "float32",
        Kind::Float64 => "float",
        Kind::Duration => "duration",
        Kind::Strings => "strings",
        Kind::StringArray => "stringArray",
        Kind::Int32Slice => "int32Slice",
        Kind::StringToString => "stringToString",
        Kind::MapStringString | Kind::MapNoSplit | Kind::ConfigurationMap | Kind::LangleMap => {
            "mapStringString"
        }
        Kind::MapStringBool => "mapStringBool",
        Kind::Multimap => "colonSeparatedMultimapStringString",
        Kind::Ip => "ip",
        Kind::IpPort => "ipport",
        Kind::Quantity => "quantity",
        Kind::PortRange => "portRange",
        Kind::NamedCertKey => "namedCertKey",
        Kind::ReservedMemory => "reserved-memory",
        Kind::Taints => "[]v1.Taint",
        Kind::Version => "version",
        Kind::Level => "Level",
        Kind::Vmodule => "pattern=N,...",
        Kind::Named(name) => name,
    }
}

/// Whether pflag leaves "(default ...)" out.
fn zero_default(kind: Kind, default: &str) -> bool {
    match kind {
        Kind::Strings | Kind::StringArray => default == "[]",
        Kind::Duration => matches!(default, "0" | "0s"),
        Kind::String => default.is_empty(),
        _ => matches!(default, "false" | "<nil>" | "" | "0"),
    }
}

fn list(mut entries: Vec<&Entry>, columns: usize, column: Option<usize>) -> String {
    entries.retain(|e| !e.flag.hidden);
    entries.sort_by_key(|e| e.flag.name);
    let heads: Vec<String> = entries.iter().map(|e| head(e)).collect();
    // A sectioned help lines all its sections up on one column derived from the terminal width: upstream adds an
    // invisible flag of that width (`zzz`) to each section.
    let phantom = column.map_or(0, |c| "      --".len() + c + " int".len());
    let widest = heads.iter().map(|h| h.chars().count()).max().unwrap_or(0).max(phantom);
    let mut out = String::new();
    for (entry, head) in entries.iter().zip(&heads) {
        let pad = " ".repeat(widest - head.chars().count() + 3);
        out.push_str(head);
        out.push_str(&pad);
        out.push_str(&wrap(widest + 3, columns, &text(entry)));
        out.push('\n');
    }
    out
}

fn head(entry: &Entry) -> String {
    let flag = &entry.flag;
    let mut line = match flag.short {
        Some(short) => format!("  -{short}, --{}", flag.name),
        None => format!("      --{}", flag.name),
    };
    let name = value_name(flag.kind);
    if !name.is_empty() {
        line.push(' ');
        line.push_str(name);
    }
    match (flag.kind, flag.no_value) {
        (Kind::Bool, Some("true")) | (_, None) => {}
        (Kind::String, Some(value)) => line.push_str(&format!("[=\"{value}\"]")),
        (_, Some(value)) => line.push_str(&format!("[={value}]")),
    }
    line
}

fn text(entry: &Entry) -> String {
    let flag = &entry.flag;
    let mut line = flag.help.to_string();
    if flag.name == "feature-gates" {
        line.push_str(&crate::features::help(flag.kind == Kind::Multimap));
    }
    let default = Value::from_default(flag.kind, flag.default).display(flag.kind);
    if !zero_default(flag.kind, &default) {
        let shown = if flag.kind == Kind::String { quote(&default) } else { default };
        line.push_str(&format!(" (default {shown})"));
    }
    if let Some(why) = flag.deprecated {
        line.push_str(&format!(" (DEPRECATED: {why})"));
    }
    line
}

/// pflag's `wrap`: text from column `indent` in lines of `columns`; 0 only indents the text's own line breaks.
fn wrap(indent: usize, columns: usize, text: &str) -> String {
    let break_at = |indent: usize| format!("\n{}", " ".repeat(indent));
    if columns == 0 {
        return text.replace('\n', &break_at(indent));
    }
    let (mut indent, mut width, mut out) = (indent, columns.saturating_sub(indent), String::new());
    if width < 24 {
        indent = 16;
        width = columns.saturating_sub(indent);
        out.push_str(&break_at(indent));
    }
    if width < 24 {
        return text.replace('\n', &out);
    }
    const SLOP: usize = 5;
    let width = width - SLOP;
    let (mut line, mut rest) = split_line(width, SLOP, text);
    loop {
        out.push_str(&line.replace('\n', &break_at(indent)));
        if rest.is_empty() {
            return out;
        }
        out.push_str(&break_at(indent));
        (line, rest) = split_line(width, SLOP, rest);
    }
}

fn split_line(width: usize, slop: usize, text: &str) -> (&str, &str) {
    if width + slop > text.len() {
        return (text, "");
    }
    let limit = text.floor_char_boundary(width);
    match text[..limit].rfind([' ', '\t', '\n']) {
        None | Some(0) => (text, ""),
        Some(at) => match text[..limit].rfind('\n') {
            Some(newline) if newline > 0 && newline < at => (&text[..newline], &text[newline + 1..]),
            _ => (&text[..at], &text[at + 1..]),
        },
    }
}
