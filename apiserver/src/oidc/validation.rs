//! What an authentication configuration may say; compiles its expressions.
//! Upstream: `k8s.io/apiserver/pkg/apis/apiserver/validation/validation.go` `ValidateAuthenticationConfiguration`.

use std::collections::BTreeMap;

use api::validation::content::dns_subdomain;
use api::validation::field::{Bad, Error, Path, aggregate};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::config::{
    ClaimMappings, ClaimRule, ExtraMapping, File, Issuer, PrefixedClaim, UserRule, WrittenIssuer, WrittenJwt,
};
use super::mapping::{About, Expression, Mapping, Origin, Rule};

const MAX_ISSUERS: usize = 64;

/// Checks a configuration.
///
/// # Errors
/// Every wrong field.
pub(super) fn check(
    file: &File,
    own_issuers: &[String],
    algorithms: &[String],
) -> Result<Vec<Issuer>, String> {
    let root = Path::new("jwt");
    let mut errors = Vec::new();
    let jwts = file.jwt.as_deref().unwrap_or_default();
    if jwts.len() > MAX_ISSUERS {
        return Err(Error::too_many(&root, jwts.len(), MAX_ISSUERS).to_string());
    }
    let mut out = Vec::new();
    let (mut urls, mut discovery): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (index, jwt) in jwts.iter().enumerate() {
        let at = root.index(index);
        out.extend(check_jwt(jwt, own_issuers, algorithms, &at, &mut errors));
        let issuer_at = at.child("issuer");
        if urls.contains(&jwt.issuer.url.as_str()) {
            errors.push(Error::duplicate(&issuer_at.child("url"), &jwt.issuer.url));
        }
        urls.push(&jwt.issuer.url);
        if let Some(url) = jwt.issuer.discovery_url.as_deref().filter(|u| !u.is_empty()) {
            if discovery.contains(&url) {
                errors.push(Error::duplicate(&issuer_at.child("discoveryURL"), url));
            }
            discovery.push(url);
        }
    }
    if let Some(anonymous) = &file.anonymous {
        let conditions = anonymous.conditions.as_deref().unwrap_or_default();
        if !anonymous.enabled && !conditions.is_empty() {
            let (root, text) =
                (Path::new("anonymous"), "enabled should be set to true when conditions are defined");
            // Upstream prints the structures.
            let shown: Vec<String> = conditions
                .iter()
                .map(|c| {
                    format!("apiserver.AnonymousAuthCondition{{Path:{}}}", machinery::golang::quote(&c.path))
                })
                .collect();
            let shown = format!("[]apiserver.AnonymousAuthCondition{{{}}}", shown.join(", "));
            errors.push(Error::invalid(&root.child("conditions"), Bad::Raw(shown), text));
        }
    }
    if errors.is_empty() { Ok(out) } else { Err(aggregate(&errors)) }
}

fn check_jwt(
    jwt: &WrittenJwt,
    own_issuers: &[String],
    algorithms: &[String],
    path: &Path,
    errors: &mut Vec<Error>,
) -> Option<Issuer> {
    let before = errors.len();
    check_issuer(&jwt.issuer, own_issuers, &path.child("issuer"), errors);
    let mut mapping = Mapping::default();
    let rules = jwt.claim_validation_rules.as_deref().unwrap_or_default();
    check_claim_rules(rules, &mut mapping, &path.child("claimValidationRules"), errors);
    check_mappings(&jwt.claim_mappings, &mut mapping, &path.child("claimMappings"), errors);
    let rules = jwt.user_validation_rules.as_deref().unwrap_or_default();
    mapping.user_rules = check_user_rules(rules, &path.child("userValidationRules"), errors);
    let issuer = &jwt.issuer;
    (errors.len() == before).then(|| Issuer {
        url: issuer.url.clone(),
        discovery_url: issuer.discovery_url.clone().filter(|u| !u.is_empty()),
        ca: issuer.certificate_authority.clone(),
        audiences: issuer.audiences.clone().unwrap_or_default(),
        algorithms: algorithms.to_vec(),
        mapping,
    })
}

fn check_issuer(issuer: &WrittenIssuer, own_issuers: &[String], path: &Path, errors: &mut Vec<Error>) {
    let at = path.child("url");
    let url = issuer.url.as_str();
    if url.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        check_url(url, own_issuers, &at, errors);
    }
    if let Some(other) = issuer.discovery_url.as_deref().filter(|u| !u.is_empty()) {
        let at = path.child("discoveryURL");
        if !url.is_empty() && url.trim_end_matches('/') == other.trim_end_matches('/') {
            errors.push(Error::invalid(&at, other, "discoveryURL must be different from URL"));
        }
        check_url(other, &[], &at, errors);
    }
    check_audiences(issuer, path, errors);
    let ca = &issuer.certificate_authority;
    if !ca.is_empty() {
        let any = CertificateDer::pem_slice_iter(ca.as_bytes()).any(|c| c.is_ok());
        if !any {
            let text = "data does not contain any valid RSA or ECDSA certificates";
            errors.push(Error::invalid(&path.child("certificateAuthority"), "<omitted>", text));
        }
    }
    let at = path.child("egressSelectorType");
    match issuer.egress_selector_type.as_str() {
        "" => {}
        // Not there, and the issuer must not be asked by another way.
        "controlplane" | "cluster" => {
            errors.push(Error::forbidden(&at, "egress selectors are not supported by this server"));
        }
        other => {
            errors.push(Error::invalid(&at, other, "egress selector must be either controlplane or cluster"));
        }
    }
}

fn check_url(url: &str, disallowed: &[String], path: &Path, errors: &mut Vec<Error>) {
    let mut wrong = |text: String| errors.push(Error::invalid(path, url, text));
    if disallowed.iter().any(|d| d == url) {
        let mut all: Vec<&str> = disallowed.iter().map(String::as_str).collect();
        all.sort_unstable();
        wrong(format!("URL must not overlap with disallowed issuers: [{}]", all.join(" ")));
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    if !scheme.eq_ignore_ascii_case("https") {
        wrong("URL scheme must be https".to_owned());
    }
    if !scheme.is_empty() && rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        wrong("URL must not contain a username or password".to_owned());
    }
    if !query.is_empty() {
        wrong("URL must not contain a query".to_owned());
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment".to_owned());
    }
}

fn check_audiences(issuer: &WrittenIssuer, path: &Path, errors: &mut Vec<Error>) {
    let at = path.child("audiences");
    let audiences = issuer.audiences.as_deref().unwrap_or_default();
    if audiences.is_empty() {
        errors.push(Error::required(&at, format!("at least one {at} is required")));
        return;
    }
    for (index, audience) in audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.push(Error::required(&at.index(index), ""));
        }
        if audiences.iter().take(index).any(|a| a == audience) {
            errors.push(Error::duplicate(&at.index(index), audience));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let text = match (audiences.len(), policy) {
        (_, "MatchAny") | (1, "") => return,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    errors.push(Error::invalid(&path.child("audienceMatchPolicy"), policy, text));
}

/// Compiles; a problem is added where it fails.
fn compiled(
    text: &str,
    about: About,
    condition: bool,
    path: &Path,
    errors: &mut Vec<Error>,
) -> Option<Expression> {
    let result = Expression::compile(text, about, condition);
    result.map_err(|why| errors.push(Error::invalid(path, text, why))).ok()
}

fn check_claim_rules(rules: &[ClaimRule], mapping: &mut Mapping, path: &Path, errors: &mut Vec<Error>) {
    let mut required = BTreeMap::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = path.index(index);
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (false, false) => {
                errors.push(Error::invalid(&at, &rule.claim, "claim and expression can't both be set"));
            }
            (true, true) => errors.push(Error::required(&at, "claim or expression is required")),
            (false, true) => {
                if !rule.message.is_empty() {
                    let text = "may not be specified when claim is set";
                    errors.push(Error::invalid(&at.child("message"), &rule.message, text));
                }
                if required.insert(rule.claim.clone(), rule.required_value.clone()).is_some() {
                    errors.push(Error::duplicate(&at.child("claim"), &rule.claim));
                }
            }
            (true, false) => {
                if !rule.required_value.is_empty() {
                    let text = "may not be specified when expression is set";
                    errors.push(Error::invalid(&at.child("requiredValue"), &rule.required_value, text));
                }
                let field = at.child("expression");
                if seen.contains(&rule.expression.as_str()) {
                    errors.push(Error::duplicate(&field, &rule.expression));
                    continue;
                }
                seen.push(&rule.expression);
                let expression = compiled(&rule.expression, About::Claims, true, &field, errors);
                let rule = expression.map(|expression| Rule { expression, message: rule.message.clone() });
                mapping.claim_rules.extend(rule);
            }
        }
    }
    mapping.required = required;
}

fn check_mappings(written: &ClaimMappings, mapping: &mut Mapping, path: &Path, errors: &mut Vec<Error>) {
    mapping.username = prefixed(&written.username, true, &path.child("username"), errors);
    mapping.groups = prefixed(&written.groups, false, &path.child("groups"), errors);
    let (uid, at) = (&written.uid, path.child("uid"));
    mapping.uid = match (uid.claim.is_empty(), uid.expression.is_empty()) {
        (false, false) => {
            errors.push(Error::invalid(&at, "", "claim and expression can't both be set"));
            Origin::Nothing
        }
        (true, true) => Origin::Nothing,
        (false, true) => Origin::Claim(uid.claim.clone(), String::new()),
        (true, false) => {
            let field = at.child("expression");
            let expression = compiled(&uid.expression, About::Claims, false, &field, errors);
            expression.map_or(Origin::Nothing, Origin::Expression)
        }
    };
    mapping.extra = extra(written.extra.as_deref().unwrap_or_default(), &path.child("extra"), errors);
    if !email_is_checked(mapping) {
        let (username, text) = (
            path.child("username"),
            "claims.email_verified must be used in claimMappings.username.expression or \
             claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in \
             claimMappings.username.expression",
        );
        errors.push(Error::invalid(&username.child("expression"), &written.username.expression, text));
    }
}

/// Whether what makes a name of an address looks at whether the address is verified.
fn email_is_checked(mapping: &Mapping) -> bool {
    let Origin::Expression(username) = &mapping.username else { return true };
    let looks = |e: &Expression| e.program.selects("claims", "email_verified");
    !username.program.selects("claims", "email")
        || looks(username)
        || mapping.extra.iter().any(|(_, e)| looks(e))
        || mapping.claim_rules.iter().any(|r| looks(&r.expression))
}

fn prefixed(written: &PrefixedClaim, required: bool, path: &Path, errors: &mut Vec<Error>) -> Origin {
    match (written.claim.is_empty(), written.expression.is_empty()) {
        (false, false) => errors.push(Error::invalid(path, "", "claim and expression can't both be set")),
        (true, true) if required => errors.push(Error::required(path, "claim or expression is required")),
        (true, true) => {}
        (true, false) => {
            if let Some(prefix) = &written.prefix {
                let text = "may not be specified when expression is set";
                errors.push(Error::invalid(&path.child("prefix"), prefix, text));
            }
            let field = path.child("expression");
            let expression = compiled(&written.expression, About::Claims, false, &field, errors);
            return expression.map_or(Origin::Nothing, Origin::Expression);
        }
        (false, true) => match &written.prefix {
            Some(prefix) => return Origin::Claim(written.claim.clone(), prefix.clone()),
            None => {
                let text = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(Error::required(&path.child("prefix"), text));
            }
        },
    }
    Origin::Nothing
}

fn extra(written: &[ExtraMapping], path: &Path, errors: &mut Vec<Error>) -> Vec<(String, Expression)> {
    let mut out: Vec<(String, Expression)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, one) in written.iter().enumerate() {
        let item = path.index(index);
        let at = item.child("key");
        check_key(&one.key, &at, errors);
        if seen.contains(&one.key.as_str()) {
            errors.push(Error::duplicate(&at, &one.key));
            continue;
        }
        seen.push(&one.key);
        let field = item.child("valueExpression");
        if one.value_expression.is_empty() {
            errors.push(Error::required(&field, ""));
            continue;
        }
        let expression = compiled(&one.value_expression, About::Claims, false, &field, errors);
        out.extend(expression.map(|e| (one.key.clone(), e)));
    }
    out
}

/// Upstream: `IsDomainPrefixedPath`, and names that are Kubernetes' own.
fn check_key(key: &str, path: &Path, errors: &mut Vec<Error>) {
    let mut wrong = |text: String| errors.push(Error::invalid(path, key, text));
    match key.split_once('/') {
        _ if key.is_empty() => errors.push(Error::required(path, "")),
        None => wrong("must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()),
        Some((domain, rest)) => {
            let refusals = dns_subdomain(domain);
            if let Some(first) = refusals.first() {
                wrong(first.to_string());
            } else if rest.is_empty() || !is_path(rest) {
                wrong(
                    "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"
                        .to_owned(),
                );
            }
            let lower = key.to_lowercase();
            if lower != key {
                errors.push(Error::invalid(path, key, "must be lowercase"));
            }
            let own = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
            if own("kubernetes.io") || own("k8s.io") {
                let text = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
                errors.push(Error::invalid(path, key, text));
            }
        }
    }
}

fn is_path(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b))
}

fn check_user_rules(rules: &[UserRule], path: &Path, errors: &mut Vec<Error>) -> Vec<Rule> {
    let mut out = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let item = path.index(index);
        let at = item.child("expression");
        if rule.expression.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        if seen.contains(&rule.expression.as_str()) {
            errors.push(Error::duplicate(&at, &rule.expression));
            continue;
        }
        seen.push(&rule.expression);
        let expression = compiled(&rule.expression, About::User, true, &at, errors);
        out.extend(expression.map(|expression| Rule { expression, message: rule.message.clone() }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::config::decode;
    use super::*;

    fn checked(jwt: &str) -> Result<Vec<Issuer>, String> {
        let text =
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n{jwt}");
        check(&decode(text.as_bytes())?, &["https://own".to_owned()], &[])
    }

    #[test]
    fn accepted() {
        let all = checked(
            "- issuer: {url: https://x/y, audiences: [a, b], audienceMatchPolicy: MatchAny}
  claimMappings:
    username: {expression: 'claims.email_verified ? claims.email : claims.sub'}
    groups: {claim: groups, prefix: ''}
    extra: [{key: example.com/a, valueExpression: claims.sub}]
  claimValidationRules: [{claim: hd, requiredValue: x}, {expression: claims.exp - claims.nbf < 86400.0}]
  userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: m}]",
        )
        .unwrap();
        assert_eq!((all[0].url.as_str(), all[0].mapping.required.len()), ("https://x/y", 1));
    }

    #[test]
    fn refusals() {
        let check = |jwt: &str, want: &str| assert_eq!(checked(jwt).unwrap_err(), want, "{jwt}");
        check(
            "- {}",
            "[jwt[0].issuer.url: Required value, jwt[0].issuer.audiences: Required value: at least one \
             jwt[0].issuer.audiences is required, jwt[0].claimMappings.username: Required value: claim or expression is \
             required]",
        );
        check(
            "- issuer: {url: 'http://u@x?a#b', audiences: [a, a], audienceMatchPolicy: x}
  claimMappings: {username: {claim: sub}, uid: {expression: 'claims.'}}",
            "[jwt[0].issuer.url: Invalid value: \"http://u@x?a#b\": URL scheme must be https, jwt[0].issuer.url: \
             Invalid value: \"http://u@x?a#b\": URL must not contain a username or password, jwt[0].issuer.url: Invalid \
             value: \"http://u@x?a#b\": URL must not contain a query, jwt[0].issuer.url: Invalid value: \
             \"http://u@x?a#b\": URL must not contain a fragment, jwt[0].issuer.audiences[1]: Duplicate value: \"a\", \
             jwt[0].issuer.audienceMatchPolicy: Invalid value: \"x\": audienceMatchPolicy must be MatchAny for multiple \
             audiences, jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It \
             can be set to an empty string to disable prefixing, jwt[0].claimMappings.uid.expression: Invalid value: \
             \"claims.\": compilation failed: ERROR: <input>:1:8: Syntax error: no viable alternative at input '.'\n | \
             claims.\n | .......^]",
        );
        check(
            "- issuer: {url: https://own, audiences: [a]}
  claimMappings: {username: {expression: claims.email}, extra: [{key: k8s.io/a, valueExpression: '1'}]}",
            "[jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: \
             [https://own], jwt[0].claimMappings.extra[0].key: Invalid value: \"k8s.io/a\": k8s.io, kubernetes.io and \
             their subdomains are reserved for Kubernetes use, jwt[0].claimMappings.username.expression: Invalid value: \
             \"claims.email\": claims.email_verified must be used in claimMappings.username.expression or \
             claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in \
             claimMappings.username.expression]",
        );
    }
}
