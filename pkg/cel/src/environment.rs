//! Base environments by Kubernetes version (upstream's pkg/cel/environment/base.go).
//!
//! Expressions about to be stored are compiled in the environment of the version the cluster must stay compatible
//! with, stored ones in an environment that has everything any version had.

use crate::decls::Function;
use crate::library;
use crate::parser::macros::{self, Macro};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Which expressions an environment understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// New ones, for a Kubernetes minor version 1.x.
    Minor(u32),
    /// Stored ones, of any version.
    Stored,
}

impl Version {
    /// What new expressions may use: the release before this one must understand them too.
    pub const COMPATIBLE: Version = Version::Minor(36);
}

/// Switches beside functions and macros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Features {
    pub optionals: bool,
    pub cross_type: bool,
    /// Constant durations, times and patterns are validated.
    pub validators: bool,
    /// Formatting calls with constant arguments are validated.
    pub format_validator: bool,
    pub keyword_fields: bool,
    pub addresses: bool,
}

pub(crate) struct Base {
    pub functions: HashMap<&'static str, Function>,
    pub macros: Vec<Macro>,
    pub features: Features,
}

impl Base {
    /// The base environment; the current ones are made once.
    pub fn of(version: Version) -> Arc<Base> {
        static STORED: OnceLock<Arc<Base>> = OnceLock::new();
        static CURRENT: OnceLock<Arc<Base>> = OnceLock::new();
        static COMPATIBLE: OnceLock<Arc<Base>> = OnceLock::new();
        match version {
            Version::Stored => STORED.get_or_init(|| Arc::new(build(version))).clone(),
            Version::Minor(37..) => CURRENT.get_or_init(|| Arc::new(build(version))).clone(),
            Version::Minor(36) => COMPATIBLE.get_or_init(|| Arc::new(build(version))).clone(),
            Version::Minor(_) => Arc::new(build(version)),
        }
    }
}

fn build(version: Version) -> Base {
    let minor = match version {
        Version::Minor(n) => n,
        Version::Stored => u32::MAX,
    };
    let since = |n: u32| minor >= n;
    let mut functions: HashMap<&'static str, Function> = HashMap::new();
    let mut add = |wanted: bool, library: Vec<Function>| {
        for function in library.into_iter().filter(|_| wanted) {
            match functions.get_mut(function.name) {
                Some(known) => known.merge(function),
                None => {
                    functions.insert(function.name, function);
                }
            }
        }
    };
    add(true, library::operators::functions());
    add(true, library::standard::functions());
    add(true, library::times::functions());
    add(true, library::urls::functions());
    add(true, library::regex::functions());
    add(!since(37), library::lists::functions(false));
    add(since(27), library::authz::functions());
    add(since(28), library::optional::functions());
    add(since(28), library::quantity::functions());
    add(true, library::strings::functions(if since(29) { 2 } else { 0 }));
    add(since(29), library::sets::functions());
    add(since(30), library::ip::functions());
    add(since(30), library::cidr::functions());
    add(since(31), library::format::functions());
    add(since(31), library::authz::selectors());
    add(since(32), library::map_insert::functions());
    add(since(33), library::semver::functions());
    add(since(34), library::ext_lists::functions());
    add(since(37), library::lists::functions(true));
    let mut all = macros::STANDARD.to_vec();
    for (wanted, some) in
        [(since(28), macros::OPTIONAL), (since(32), macros::TWO_VARIABLES), (since(34), macros::SORT_BY)]
    {
        all.extend_from_slice(if wanted { some } else { &[] });
    }
    let features = Features {
        optionals: since(28),
        cross_type: since(28),
        validators: since(29),
        format_validator: since(29),
        keyword_fields: since(31),
        addresses: since(30),
    };
    Base { functions, macros: all, features }
}
