//! Whether a token is its issuer's, meant for us, and good now. Upstream: `github.com/coreos/go-oidc` `Verify`.

use auth::jwt::Unverified;
use jiff::Timestamp;
use serde_json::Value;

use super::config::Issuer;
use super::provider::Provider;

/// How far clocks may differ for tokens that are not good yet, in seconds.
const LEEWAY: i64 = 60;

/// The issuer that a token names; `None` for what is no such token. Nothing is verified.
pub(super) fn untrusted_issuer(token: &str) -> Option<String> {
    let parsed = Unverified::parse(token)?;
    let issuer = parsed.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    Some(match issuer {
        // The form that Google once used.
        "accounts.google.com" => "https://accounts.google.com".to_owned(),
        other => other.to_owned(),
    })
}

fn seconds(claims: &Value, name: &str) -> Option<i64> {
    let value = claims.get(name)?;
    value.as_i64().or_else(|| value.as_f64().map(|f| f as i64))
}

/// All that a token must be but signed.
pub(super) fn check(
    claims: &Value,
    algorithm: &str,
    audiences: &[String],
    algorithms: &[String],
    now: Timestamp,
) -> Result<(), String> {
    let named: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.iter().any(|a| named.contains(&a.as_str())) {
        return Err(format!("oidc: expected audience in {audiences:?} got {named:?}"));
    }
    // Go's decoder refuses other kinds.
    let texts = ["iss", "sub", "nonce", "at_hash"];
    if let Some(name) = texts.iter().find(|n| claims.get(n).is_some_and(|v| !v.is_string() && !v.is_null())) {
        return Err(format!("oidc: failed to unmarshal claims: {name} is no text"));
    }
    let now = now.as_second();
    let expires = seconds(claims, "exp").unwrap_or_default();
    if expires < now {
        return Err(format!("oidc: token is expired (Token Expiry: {expires})"));
    }
    if let Some(begins) = seconds(claims, "nbf").filter(|begins| now + LEEWAY < *begins) {
        return Err(format!("oidc: current time {now} before the nbf (not before) time: {begins}"));
    }
    if !algorithms.iter().any(|a| a == algorithm) {
        return Err(format!(
            "oidc: id token signed with unsupported algorithm, expected {algorithms:?} got {algorithm:?}"
        ));
    }
    Ok(())
}

/// The claims of a token that is good now.
pub(super) async fn verify(
    token: &str,
    issuer: &Issuer,
    provider: &Provider,
    now: Timestamp,
) -> Result<Value, String> {
    let parsed = Unverified::parse(token).ok_or("oidc: malformed jwt")?;
    check(&parsed.claims, &parsed.algorithm, &issuer.audiences, &issuer.algorithms, now)?;
    provider.verify(&parsed).await?;
    Ok(parsed.claims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = now.as_second();
        let check = |claims: Value, algorithm: &str, want: Option<&str>| {
            let got = check(&claims, algorithm, &["a".into(), "b".into()], &["RS256".into()], now);
            match want {
                None => assert_eq!(got, Ok(()), "{claims}"),
                Some(part) => assert!(got.unwrap_err().contains(part), "{claims}"),
            }
        };
        check(json!({"aud": "a", "exp": at + 1}), "RS256", None);
        check(json!({"aud": ["x", "b"], "exp": at + 1, "nbf": at + 59}), "RS256", None);
        check(json!({"aud": ["x"], "exp": at + 1}), "RS256", Some("expected audience"));
        check(json!({"aud": "a"}), "RS256", Some("expired"));
        check(json!({"aud": "a", "exp": at + 1, "sub": 5}), "RS256", Some("sub is no text"));
        check(json!({"aud": "a", "exp": at - 1}), "RS256", Some("expired"));
        check(json!({"aud": "a", "exp": at + 900, "nbf": at + 61}), "RS256", Some("nbf"));
        check(json!({"aud": "a", "exp": at + 1}), "none", Some("unsupported algorithm"));
        check(json!({"aud": "a", "exp": at + 1}), "ES256", Some("unsupported algorithm"));
    }
}
