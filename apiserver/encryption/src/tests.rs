use bytes::Bytes;
use component::app::Tasks;
use tokio_util::sync::CancellationToken;

use crate::provider::{Plain, Transformers};
use crate::resources::GroupResource;

/// `0123456789abcdef0123456789abcdef` and its upper-case sibling, in base64.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER: &str = "MDEyMzQ1Njc4OUFCQ0RFRjAxMjM0NTY3ODlBQkNERUY=";
const PLACE: &[u8] = b"/registry/secrets/ns/name";

async fn loaded(rules: &str) -> Result<Transformers, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    let text =
        format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{rules}");
    std::fs::write(&path, text).unwrap();
    let stop = CancellationToken::new();
    crate::load(&path, false, &Tasks::new(stop.clone()), &stop).await
}

fn keys(provider: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(n, k)| format!("{{name: {n}, secret: {k}}}")).collect();
    format!("{provider}: {{keys: [{}]}}", keys.join(", "))
}

fn rule(resources: &str, providers: &[String]) -> String {
    let providers: String = providers.iter().map(|p| format!("  - {p}\n")).collect();
    format!("- resources: [{resources}]\n  providers:\n{providers}")
}

async fn read(all: &Transformers, resource: &str, data: &[u8]) -> Result<Plain, String> {
    all.read(&GroupResource::parse(resource), Bytes::copy_from_slice(data), PLACE).await
}

fn write(all: &Transformers, resource: &str) -> Bytes {
    all.write(&GroupResource::parse(resource), Bytes::from_static(b"plain"), PLACE).unwrap()
}

#[tokio::test]
async fn every_cipher_reads_what_it_writes() {
    for provider in ["aescbc", "aesgcm", "secretbox"] {
        let all =
            loaded(&rule("secrets", &[keys(provider, &[("k", KEY)]), "identity: {}".into()])).await.unwrap();
        let stored = write(&all, "secrets");
        assert!(stored.starts_with(format!("k8s:enc:{provider}:v1:k:").as_bytes()), "{provider}");
        let plain = read(&all, "secrets", &stored).await.unwrap();
        assert_eq!((&plain.bytes[..], plain.stale), (&b"plain"[..], false), "{provider}");
        let identity = read(&all, "secrets", b"plain").await.unwrap();
        assert!(identity.stale, "{provider}");
        for at in [stored.len() - 1, stored.len() / 2] {
            let mut flipped = stored.to_vec();
            flipped[at] ^= 1;
            // CBC is not authenticated: what comes out may be garbage, never the object.
            assert!(read(&all, "secrets", &flipped).await.map_or(true, |p| &p.bytes[..] != b"plain"));
        }
        assert!(read(&all, "secrets", &stored[..stored.len() - 7]).await.is_err(), "{provider}");
        let text = read(&all, "configmaps", &stored).await.unwrap_err();
        assert_eq!(text, "identity transformer tried to read encrypted data");
    }
}

#[tokio::test]
async fn rotation() {
    let old = loaded(&rule("secrets", &[keys("aescbc", &[("a", KEY)])])).await.unwrap();
    let stored = write(&old, "secrets");
    let both = [keys("aescbc", &[("b", OTHER), ("a", KEY)])];
    let new = loaded(&rule("secrets", &both)).await.unwrap();
    assert!(read(&new, "secrets", &stored).await.unwrap().stale);
    // The same provider twice.
    let twice = [keys("aescbc", &[("b", OTHER)]), keys("aescbc", &[("a", KEY)])];
    let twice = loaded(&rule("secrets", &twice)).await.unwrap();
    assert!(read(&twice, "secrets", &stored).await.unwrap().stale);
    let away =
        loaded(&rule("secrets", &["identity: {}".into(), keys("aescbc", &[("a", KEY)])])).await.unwrap();
    assert_eq!(write(&away, "secrets"), &b"plain"[..]);
    assert!(read(&away, "secrets", &stored).await.unwrap().stale);
    let gone = loaded(&rule("secrets", &[keys("aescbc", &[("b", OTHER)])])).await.unwrap();
    let text = read(&gone, "secrets", &stored).await.unwrap_err();
    assert_eq!(text, "no matching key was found for the provided AES transformer");
    assert_eq!(read(&gone, "secrets", b"plain").await.unwrap_err(), "no matching prefix found");
}

#[tokio::test]
async fn wildcards() {
    let rules = [
        rule("secrets", &[keys("aesgcm", &[("one", KEY)])]),
        rule("'*.apps'", &[keys("aesgcm", &[("group", KEY)])]),
        rule("'*.'", &["identity: {}".into()]),
        rule("'*.*'", &[keys("aesgcm", &[("all", KEY)])]),
    ];
    let all = loaded(&rules.concat()).await.unwrap();
    for (resource, want) in
        [("secrets", "one:"), ("deployments.apps", "group:"), ("pods", "plain"), ("jobs.batch", "all:")]
    {
        let stored = String::from_utf8_lossy(&write(&all, resource)).into_owned();
        let rest = stored.strip_prefix("k8s:enc:aesgcm:v1:").unwrap_or(&stored);
        assert!(rest.starts_with(want), "{resource}: {stored}");
    }
    let masked = [rule("'*.*'", &["identity: {}".into()]), rule("pods", &["identity: {}".into()])].concat();
    assert_eq!(
        loaded(&masked).await.map(drop).unwrap_err(),
        "error while building transformers: resource \"pods\" is masked by earlier rule \"*.*\""
    );
}

#[tokio::test]
async fn refusals() {
    for (rules, want) in [
        (
            rule("", &["identity: {}".into()]),
            "resources[0].resources: Required value: at least one resources[0].resources is required",
        ),
        (
            rule("'*'", &["identity: {}".into()]),
            "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
        ),
        (
            rule("secrets", &["{}".into()]),
            "resources[0].providers[0]: Invalid value: {}: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
        ),
        (
            rule("secrets", &[keys("aescbc", &[("k", "aGVsbG8=")])]),
            "resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16 24 32]",
        ),
        (
            rule("secrets, secrets", &["identity: {}".into()]),
            "resources[0].resources: Invalid value: [\"secrets\",\"secrets\"]: the same resource cannot be specified multiple times",
        ),
        (
            rule("secrets", &["kms: {apiVersion: v2, name: 'a:b', endpoint: 'tcp://x'}".into()]),
            "[resources[0].providers[0].kms.name: Invalid value: \"a:b\": invalid KMS provider name a:b, must not contain ':', resources[0].providers[0].kms.endpoint: Invalid value: \"tcp://x\": unsupported scheme \"tcp\" for KMS provider, only unix is supported]",
        ),
    ] {
        assert_eq!(
            loaded(&rules).await.map(drop).unwrap_err(),
            format!("error while parsing file: {want}"),
            "{rules}"
        );
    }
    let unknown = loaded("- {resources: [secrets], provider: []}").await.map(drop).unwrap_err();
    assert!(unknown.contains("strict decoding error: unknown field \"resources[0].provider\""), "{unknown}");
    let v1 = rule("secrets", &["kms: {name: a, endpoint: 'unix:///x'}".into()]);
    assert!(loaded(&v1).await.map(drop).unwrap_err().contains("KMSv1 is deprecated"));
}
