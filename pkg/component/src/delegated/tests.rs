use std::sync::Arc;

use async_trait::async_trait;
use auth::UserInfo;
use auth::authenticator::{Authenticated, Outcome, Rejected, TokenAuthenticator};
use auth::authorizer::{Attributes, Authorizer, Decision};
use http::HeaderMap;

use super::*;

struct Tokens;

#[async_trait]
impl TokenAuthenticator for Tokens {
    async fn authenticate(&self, token: &str, _: &[String]) -> Outcome {
        match token {
            "good" => {
                let user = Arc::new(UserInfo::new("alice", &["devs"]));
                Ok(Some(Authenticated { user, audiences: Vec::new() }))
            }
            "bad" => Err(Rejected("expired".into())),
            _ => Ok(None),
        }
    }
}

#[tokio::test]
async fn identities() {
    let check = async |value: Option<&str>, anonymous: bool, expected: Result<&str, &str>| {
        let authentication =
            Authentication { tokens: Some(Arc::new(Tokens)), anonymous, ..Authentication::default() };
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert("authorization", value.parse().unwrap());
        }
        let user = authentication.authenticate(&mut headers, &[]).await;
        let got = user.as_ref().map(|u| u.name.as_str()).map_err(|e| e.0.as_str());
        assert_eq!(got, expected, "{value:?}");
        assert!(headers.is_empty(), "credentials are removed");
    };
    check(Some("Bearer good"), false, Ok("alice")).await;
    check(Some("bearer good"), false, Ok("alice")).await;
    check(Some("Bearer bad"), true, Err("expired")).await;
    check(Some("Bearer other"), true, Ok("system:anonymous")).await;
    check(Some("Basic x"), false, Err("no credentials that identify the request")).await;
    check(None, true, Ok("system:anonymous")).await;
    check(None, false, Err("no credentials that identify the request")).await;
}

#[tokio::test]
async fn paths_always_allowed() {
    let paths: Vec<String> = ["/healthz", "/livez/*"].map(String::from).to_vec();
    let authorizer = AlwaysAllowPaths::new(&paths).unwrap();
    for (path, allowed) in
        [("/healthz", true), ("/healthz/x", false), ("/livez/ping", true), ("/metrics", false)]
    {
        let attributes = Attributes { path: path.into(), verb: "get".into(), ..Attributes::default() };
        let wanted = if allowed { Decision::Allow } else { Decision::NoOpinion };
        assert_eq!(authorizer.authorize(&attributes).await.decision, wanted, "{path}");
    }
    assert_eq!(
        AlwaysAllowPaths::new(&["/a*b".into()]).err(),
        Some(r#"only trailing * allowed in "a*b""#.into())
    );
}

#[test]
fn cluster_settings() {
    let (cert, _) = crate::serving::self_signed::generate("ca", &[], &[]).unwrap();
    let data = [
        ("client-ca-file", cert.as_str()),
        ("requestheader-client-ca-file", &cert),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
    ];
    let data = data.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let settings = ClusterSettings::from_data(&data).unwrap();
    assert!(settings.client_ca.is_some());
    assert_eq!(settings.front_proxy.unwrap().0.allowed_names, ["front-proxy-client"]);
    let bad = [("requestheader-client-ca-file".to_string(), "x".to_string())].into();
    let error = ClusterSettings::from_data(&bad).unwrap_err();
    assert!(error.starts_with("requestheader-client-ca-file: "), "{error}");
}
