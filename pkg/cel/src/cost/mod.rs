//! What expressions cost: [`estimate`] before evaluation, [`runtime`] during it.

pub(crate) mod estimate;
pub(crate) mod functions;
pub(crate) mod range;
pub(crate) mod runtime;

/// Reading a variable, a field or an element.
pub(crate) const IDENT: u64 = 1;
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// Going over a string once, per unit of its length.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// Matching a pattern, per unit of its length.
pub(crate) const PATTERN: f64 = 0.25;
/// One question to an authorizer.
pub(crate) const AUTHORIZATION: u64 = 350_000;

/// Functions that cost one whatever they are applied to.
pub(crate) fn is_accessor(function: &str) -> bool {
    matches!(
        function,
        "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery"
    )
}

/// Functions that go over their list once.
pub(crate) fn is_list_scan(function: &str) -> bool {
    matches!(function, "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes")
}
