//! What becomes of token Secrets.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Plan, claims, filled, plan};
use crate::scenario;

const CA: &[u8] = b"ca";

#[test]
fn scenarios() {
    scenario::check("serviceaccount_token/testdata", |given| {
        let (secret, account) = (given.one::<Secret>(), given.maybe::<ServiceAccount>());
        match (plan(&secret, account.as_ref(), CA), account) {
            (Plan::Fill(lacks), Some(account)) => {
                let token = if lacks.token { claims(&account, &secret).to_string() } else { String::new() };
                let new = filled(&secret, &account, lacks, CA, &token);
                let told = if lacks.token { format!("\nclaims\n{token}") } else { String::new() };
                format!("fill {}{told}", scenario::yaml(&new))
            }
            (other, _) => format!("{other:?}").to_lowercase(),
        }
    });
}

fn secret(account: &str, data: &[(&str, &str)]) -> Secret {
    let data: serde_json::Map<_, _> = data
        .iter()
        .map(|(name, value)| (name.to_string(), json!(k8s_openapi::ByteString(value.as_bytes().to_vec()))))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "t", "namespace": "n", "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token",
        "data": data,
    }))
    .expect("a secret")
}

proptest! {
    /// What was filled lacks nothing more, and keeps what it had.
    #[test]
    fn plan_then_apply_settles(ca in "|ca|old", namespace in "|n", token in "|t", account in "|a") {
        let secret = secret(&account, &[("ca.crt", &ca), ("namespace", &namespace), ("token", &token)]);
        let of: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}})).expect("an account");
        if let Plan::Fill(lacks) = plan(&secret, Some(&of), CA) {
            let new = filled(&secret, &of, lacks, CA, "new");
            prop_assert_eq!(plan(&new, Some(&of), CA), Plan::Nothing);
            let data = new.data.expect("data");
            prop_assert_eq!(&data["token"].0, if token.is_empty() { b"new".as_slice() } else { token.as_bytes() });
        } else {
            prop_assert!(account.is_empty() || (ca == "ca" && !namespace.is_empty() && !token.is_empty()));
        }
    }

    /// A full Secret needs nothing while its account lives, whatever else is in it.
    #[test]
    fn a_satisfied_view_needs_nothing(extra in "[a-z]{1,5}") {
        let secret = secret("a", &[("ca.crt", "ca"), ("namespace", "n"), ("token", "t"), (&extra, "x")]);
        let known = ["token", "namespace"].contains(&extra.as_str());
        prop_assume!(!known);
        prop_assert_eq!(plan(&secret, Some(&ServiceAccount::default()), CA), Plan::Nothing);
        prop_assert_eq!(plan(&secret, None, CA), Plan::Delete);
    }
}
