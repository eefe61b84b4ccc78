//! Query parameters, decoded the way upstream's parameter codec does.
//! Upstream: `apimachinery/pkg/runtime/conversion.go` and the generated `url.Values` conversions.

use percent_encoding::percent_decode_str;
use registry::api::{DeleteOptions, FieldValidation, ListOptions};
use registry::errors::{ApiError, Cause};

/// Parsed query parameters in order of appearance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a raw query; like Go, a pair with a bad escape or a `;` is dropped.
    pub(crate) fn parse(raw: &str) -> Self {
        let mut all = Vec::new();
        for pair in raw.split('&').filter(|p| !p.is_empty() && !p.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(key), Some(value)) = (unescape(key), unescape(value)) {
                all.push((key, value));
            }
        }
        Self(all)
    }

    /// First value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// First value, or empty.
    pub(crate) fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// A boolean: absent is `None`; `false` and `0` are false, everything else is true.
    /// Upstream: `Convert_Slice_string_To_bool`.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// An integer.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name).map(parse_int).transpose()
    }
}

fn unescape(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
        if *byte == b'%' && !(hex(at + 1) && hex(at + 2)) {
            return None;
        }
    }
    Some(percent_decode_str(&text).decode_utf8_lossy().into_owned())
}

/// `strconv.ParseInt(text, 10, 64)` with Go's error texts.
fn parse_int(text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|e: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let what = match e.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {what}"))
    })
}

/// An option object that failed validation: 422 for `<kind>.meta.k8s.io ""`.
fn invalid(kind: &str, causes: Vec<Cause>) -> Result<(), ApiError> {
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("meta.k8s.io", kind, "", causes)) }
}

fn forbidden(field: &str, why: &str) -> Cause {
    Cause { reason: "FieldValueForbidden".into(), message: format!("Forbidden: {why}"), field: field.into() }
}

fn not_supported(field: &str, value: &str, supported: &[&str]) -> Cause {
    let list: Vec<String> = supported.iter().map(|v| format!("{v:?}")).collect();
    Cause {
        reason: "FieldValueNotSupported".into(),
        message: format!("Unsupported value: {value}: supported values: {}", list.join(", ")),
        field: field.into(),
    }
}

/// Decodes, defaults and validates list options. `watch` says whether they are for a watch.
/// Upstream: `metainternalversion.SetListOptionsDefaults`, `validation.ValidateListOptions`.
pub(crate) fn list_options(query: &Query, force_watch: bool) -> Result<(ListOptions, bool), ApiError> {
    let watch = query.flag("watch").unwrap_or(false);
    let mut options = ListOptions {
        label_selector: query.text("labelSelector"),
        field_selector: query.text("fieldSelector"),
        resource_version: query.text("resourceVersion"),
        resource_version_match: query.text("resourceVersionMatch"),
        limit: query.int("limit")?.unwrap_or(0),
        continue_token: query.text("continue"),
        timeout_seconds: query.int("timeoutSeconds")?,
        allow_watch_bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
        send_initial_events: query.flag("sendInitialEvents"),
    };
    check_selectors(&options)?;
    let legacy = matches!(options.resource_version.as_str(), "" | "0");
    if watch && legacy && options.send_initial_events.is_none() && options.resource_version_match.is_empty() {
        options.send_initial_events = Some(true);
        options.resource_version_match = NOT_OLDER_THAN.into();
    }
    let causes = if watch { check_watch(&options) } else { check_list(&options) };
    invalid("ListOptions", causes)?;
    Ok((options, watch || force_watch))
}

/// Selectors are parsed as the parameters are decoded, before anything is validated.
fn check_selectors(options: &ListOptions) -> Result<(), ApiError> {
    machinery::fields::parse(&options.field_selector).map_err(|e| ApiError::bad_request(e.to_string()))?;
    machinery::labels::parse(&options.label_selector).map_err(|e| ApiError::bad_request(e.to_string()))?;
    Ok(())
}

/// What a collection is deleted by: the options of a list, which may well say `watch`. They are validated as those of
/// a watch then, and list all the same. Upstream: `DeleteCollection` of apiserver/pkg/endpoints/handlers/delete.go.
pub(crate) fn collection_options(query: &Query) -> Result<ListOptions, ApiError> {
    let (mut options, watch) = list_options(query, false)?;
    if watch {
        options.send_initial_events = None;
        if options.resource_version.is_empty() {
            options.resource_version_match.clear();
        }
    }
    Ok(options)
}

const NOT_OLDER_THAN: &str = "NotOlderThan";
const MATCH: &str = "resourceVersionMatch";

fn check_list(options: &ListOptions) -> Vec<Cause> {
    let mut causes = Vec::new();
    let matching = options.resource_version_match.as_str();
    if !matching.is_empty() {
        if options.resource_version.is_empty() {
            causes.push(forbidden(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !options.continue_token.is_empty() {
            causes.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | NOT_OLDER_THAN) {
            causes.push(not_supported(MATCH, &format!("{matching:?}"), &["Exact", NOT_OLDER_THAN, ""]));
        }
        if matching == "Exact" && options.resource_version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(forbidden(MATCH, why));
        }
    }
    if options.send_initial_events.is_some() {
        causes.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    causes
}

fn check_watch(options: &ListOptions) -> Vec<Cause> {
    let mut causes = Vec::new();
    let matching = options.resource_version_match.as_str();
    if options.send_initial_events.is_some() && matching != NOT_OLDER_THAN {
        causes.push(forbidden(
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if !matching.is_empty() {
        if options.send_initial_events.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(forbidden(MATCH, why));
        }
        if matching != NOT_OLDER_THAN {
            causes.push(not_supported(MATCH, &format!("{matching:?}"), &[NOT_OLDER_THAN]));
        }
        if !options.continue_token.is_empty() {
            causes.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    causes
}

/// The options that create, update and patch share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: Option<bool>,
}

/// Which write a request is; the options kinds differ in name and in what they allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Create,
    Update,
    Patch,
    Apply,
}

/// Decodes and validates create, update or patch options. `user_agent` names the manager when the client did not.
/// Upstream: `metav1.validation.Validate{Create,Update,Patch}Options`, `managerOrUserAgent`.
pub(crate) fn write_options(query: &Query, write: Write, user_agent: &str) -> Result<WriteOptions, ApiError> {
    let kind = match write {
        Write::Create => "CreateOptions",
        Write::Update => "UpdateOptions",
        Write::Patch | Write::Apply => "PatchOptions",
    };
    let mut causes = Vec::new();
    let manager = query.text("fieldManager");
    let force = query.flag("force").filter(|_| matches!(write, Write::Patch | Write::Apply));
    match write {
        Write::Apply if manager.is_empty() => causes.push(Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value: is required for apply patch".into(),
            field: "fieldManager".into(),
        }),
        Write::Patch if force.is_some() => {
            causes.push(forbidden("force", "may not be specified for non-apply patch"));
        }
        _ => {}
    }
    check_manager(&manager, &mut causes);
    let dry_run = check_dry_run(query, &mut causes);
    let validation = query.text("fieldValidation");
    let field_validation = match validation.as_str() {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            let supported = ["", "Ignore", "Strict", "Warn"];
            causes.push(not_supported("fieldValidation", &format!("{other:?}"), &supported));
            FieldValidation::Warn
        }
    };
    invalid(kind, causes)?;
    let field_manager = if manager.is_empty() { manager_from(user_agent) } else { manager };
    Ok(WriteOptions { dry_run, field_manager, field_validation, force })
}

fn check_manager(manager: &str, causes: &mut Vec<Cause>) {
    if manager.len() > 128 {
        causes.push(Cause {
            reason: "FieldValueTooLong".into(),
            message: "Too long: may not be more than 128 bytes".into(),
            field: "fieldManager".into(),
        });
    }
    for (at, character) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        causes.push(Cause {
            reason: "FieldValueInvalid".into(),
            message: format!(
                "Invalid value: {manager:?}: invalid character U+{:04X} (at position {at})",
                u32::from(character)
            ),
            field: "fieldManager".into(),
        });
    }
}

fn check_dry_run(query: &Query, causes: &mut Vec<Cause>) -> bool {
    let values: Vec<&str> = query.all("dryRun").collect();
    if values.iter().any(|v| *v != "All") {
        let shown: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
        causes.push(not_supported("dryRun", &format!("[{}]", shown.join(",")), &["All"]));
    }
    !values.is_empty()
}

/// The part of the user agent before the first `/`, printable characters only, at most 128 bytes.
/// Upstream: `handlers.prefixFromUserAgent`.
fn manager_from(user_agent: &str) -> String {
    let prefix = user_agent.split('/').next().unwrap_or_default();
    let mut out = String::new();
    for character in prefix.chars().filter(|c| !c.is_control()) {
        if out.len() + character.len_utf8() > 128 {
            break;
        }
        out.push(character);
    }
    out
}

/// Delete options from query parameters (used when the request has no body), and `dryRun`.
pub(crate) fn delete_options(query: &Query) -> Result<(DeleteOptions, bool), ApiError> {
    let stated = |name: &str| query.get(name).filter(|v| !v.is_empty()).map(str::to_owned);
    let options = DeleteOptions {
        grace_period_seconds: query.int("gracePeriodSeconds")?,
        propagation_policy: query.get("propagationPolicy").map(str::to_owned),
        orphan_dependents: query.flag("orphanDependents"),
        // Preconditions, which lists by resource version get as well. Upstream: `Convert_url_Values_To_v1_DeleteOptions`.
        uid: stated("uid"),
        resource_version: stated("resourceVersion"),
        ignore_store_read_error: query.flag("ignoreStoreReadErrorWithClusterBreakingPotential"),
    };
    let mut causes = Vec::new();
    let dry_run = check_dry_run(query, &mut causes);
    check_delete(&options, causes)?;
    Ok((options, dry_run))
}

/// Refuses for a collection what is only allowed for one object. Upstream: feature `AllowUnsafeMalformedObjectDeletion`.
pub(crate) fn check_delete_collection(options: &DeleteOptions) -> Result<(), ApiError> {
    if options.ignore_store_read_error != Some(true) {
        return Ok(());
    }
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message:
            "Invalid value: true: is not allowed with DELETECOLLECTION, try again after removing the option"
                .into(),
        field: "ignoreStoreReadErrorWithClusterBreakingPotential".into(),
    };
    invalid("DeleteOptions", vec![cause])
}

/// Validates delete options. Upstream: `metav1.validation.ValidateDeleteOptions`.
pub(crate) fn check_delete(options: &DeleteOptions, mut more: Vec<Cause>) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    if let Some(policy) = &options.propagation_policy {
        if options.orphan_dependents.is_some() {
            causes.push(Cause {
                reason: "FieldValueInvalid".into(),
                message: format!(
                    "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
                ),
                field: "propagationPolicy".into(),
            });
        }
        if !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan") {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            causes.push(not_supported("propagationPolicy", &format!("{policy:?}"), &supported));
        }
    }
    causes.append(&mut more);
    if options.ignore_store_read_error == Some(true) {
        let others = [
            ("gracePeriodSeconds", options.grace_period_seconds.is_some()),
            ("orphanDependents", options.orphan_dependents.is_some()),
            ("preconditions", options.uid.is_some() || options.resource_version.is_some()),
            ("propagationPolicy", options.propagation_policy.is_some()),
        ];
        for (name, _) in others.iter().filter(|(_, set)| *set) {
            causes.push(Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: true: cannot be set together with .{name}"),
                field: "ignoreStoreReadErrorWithClusterBreakingPotential".into(),
            });
        }
    }
    invalid("DeleteOptions", causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_like_go() {
        let query = Query::parse("a=1&b=x%2Fy+z&bad=%zz&semi;c=2&a=3&d");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(query.get("b"), Some("x/y z"));
        assert_eq!(query.get("bad"), None);
        assert_eq!(query.get("d"), Some(""));
    }

    #[test]
    fn list_option_errors() {
        let check = |raw: &str, want: &str| {
            let error = list_options(&Query::parse(raw), false).expect_err(raw);
            assert_eq!(error.message, want, "{raw}");
        };
        check("limit=x", r#"strconv.ParseInt: parsing "x": invalid syntax"#);
        check(
            "sendInitialEvents=1",
            r#"ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"#,
        );
        check(
            "watch=1&resourceVersion=5&resourceVersionMatch=Exact",
            r#"ListOptions.meta.k8s.io "" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]"#,
        );
    }

    #[test]
    fn selectors_are_refused_first() {
        for raw in ["resourceVersionMatch=Exact&labelSelector=a%20in", "sendInitialEvents=1&fieldSelector=x"]
        {
            assert_eq!(list_options(&Query::parse(raw), false).expect_err(raw).code, 400, "{raw}");
        }
    }

    #[test]
    fn collections_are_deleted_by_the_options_of_watches_too() {
        for (raw, want) in [
            ("watch=maybe", Ok("")),
            ("watch=1&resourceVersion=0", Ok("NotOlderThan")),
            (
                "watch=1&resourceVersion=5&sendInitialEvents=0&resourceVersionMatch=NotOlderThan",
                Ok("NotOlderThan"),
            ),
            ("watch=1&resourceVersionMatch=Exact", Err(422)),
            ("sendInitialEvents=1", Err(422)),
        ] {
            let got = collection_options(&Query::parse(raw));
            let got = got.as_ref().map(|o| o.resource_version_match.as_str()).map_err(|e| e.code);
            assert_eq!(got, want, "{raw}");
        }
    }

    #[test]
    fn watch_from_scratch_becomes_watch_list() {
        let (options, watch) = list_options(&Query::parse("watch=true"), false).unwrap();
        assert!(watch);
        assert_eq!(options.send_initial_events, Some(true));
        assert_eq!(options.resource_version_match, "NotOlderThan");
    }

    #[test]
    fn delete_preconditions() {
        let (options, dry_run) = delete_options(&Query::parse("uid=u&resourceVersion=0&dryRun=All")).unwrap();
        assert_eq!((options.uid.as_deref(), options.resource_version.as_deref()), (Some("u"), Some("0")));
        assert!(dry_run);
        let (options, _) = delete_options(&Query::parse("uid=&resourceVersion=")).unwrap();
        assert_eq!((options.uid, options.resource_version), (None, None));
        for (raw, want) in [("uid=u", 422), ("dryRun=All", 200)] {
            let raw = format!("ignoreStoreReadErrorWithClusterBreakingPotential=true&{raw}");
            assert_eq!(delete_options(&Query::parse(&raw)).map_or_else(|e| e.code, |_| 200), want, "{raw}");
        }
    }

    #[test]
    fn managers() {
        let options = write_options(&Query::parse(""), Write::Update, "kubectl/v1.37 (linux)").unwrap();
        assert_eq!(options.field_manager, "kubectl");
        assert!(write_options(&Query::parse(""), Write::Apply, "x").is_err());
        assert!(write_options(&Query::parse("force=true"), Write::Patch, "x").is_err());
    }
}
