//! IP families of a service: what is left open is filled in from addresses, policy and cluster configuration.

use ::api::validation::field::{Bad, Error as FieldError, Path};
use machinery::Value;

use super::{set, strings, text};
use crate::errors::ApiError;
use crate::meta;

/// Families of the configured ranges, primary first.
pub type Families = Vec<&'static str>;

/// The family of an address.
pub fn family_of(address: &str) -> Option<&'static str> {
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => Some("IPv4"),
        Ok(std::net::IpAddr::V6(_)) => Some("IPv6"),
        Err(_) => None,
    }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

/// `clusterIP` and `clusterIPs` say the same; a client that knows only the first one wins over a stale second.
pub fn normalize(service: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    let one = text(service, "clusterIP").to_owned();
    let many = strings(service, "clusterIPs");
    let Some(old) = old else {
        if !one.is_empty() && many.is_empty() {
            set(service, "clusterIPs", vec![one])?;
        }
        return Ok(());
    };
    let (old_one, old_many) = (text(old, "clusterIP"), strings(old, "clusterIPs"));
    if one != old_one && many == old_many {
        // An old client changed the field it knows.
        let value = if one.is_empty() { Value::Null } else { Value::from(vec![one]) };
        set(service, "clusterIPs", value)?;
    }
    Ok(())
}

/// `initIPFamilyFields`.
pub fn init(service: &mut Value, old: Option<&Value>, configured: &Families) -> Result<(), ApiError> {
    if text(service, "type") == "ExternalName" {
        return Ok(());
    }
    let selectorless = service.map_at(&["spec", "selector"]).is_none_or(|m| m.is_empty());
    let headless = text(service, "clusterIP") == "None";
    if text(service, "ipFamilyPolicy").is_empty() {
        let before = old.map(|o| text(o, "ipFamilyPolicy").to_owned()).filter(|p| !p.is_empty());
        let policy = before.unwrap_or_else(|| {
            let dual = headless && selectorless;
            if dual { "RequireDualStack" } else { "SingleStack" }.to_owned()
        });
        set(service, "ipFamilyPolicy", policy)?;
    }
    let policy = text(service, "ipFamilyPolicy").to_owned();
    let mut addresses = strings(service, "clusterIPs");
    let mut families = strings(service, "ipFamilies");
    let mut errors = check_fields(&addresses, &families, &policy);
    if errors.is_empty() {
        if let Some(old) = old {
            if policy == "SingleStack" {
                shrink(old, &mut addresses, &mut families);
            } else {
                errors.extend(shrunk(old, &addresses, &families, &policy));
            }
        }
        errors.extend(single_stack(&addresses, &families, &policy));
        errors.extend(families_of_addresses(&addresses, &mut families, configured));
    }
    if errors.is_empty() && !(headless && selectorless) {
        errors.extend(configured_only(&families, &policy, configured));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid_fields("", "Service", meta::name(service), &errors));
    }
    if families.is_empty() {
        families.push(configured.first().copied().unwrap_or("IPv4").to_owned());
    }
    let both = (headless && selectorless) || configured.len() == 2;
    if policy != "SingleStack" && families.len() == 1 && both {
        families.push(other(&families[0]).to_owned());
    }
    set(service, "ipFamilies", families)?;
    if !addresses.is_empty() {
        set(service, "clusterIPs", addresses)?;
    }
    Ok(())
}

fn check_fields(addresses: &[String], families: &[String], policy: &str) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    let at = spec.child("ipFamilies");
    for (i, family) in families.iter().enumerate() {
        if family != "IPv4" && family != "IPv6" {
            errors.push(FieldError::not_supported(&at.index(i), family, &["IPv4", "IPv6"]));
        }
        if families[..i].contains(family) {
            errors.push(FieldError::duplicate(&at.index(i), family));
        }
    }
    if families.len() > 2 {
        errors.push(FieldError::invalid(&at, Bad::json(&families), "may only hold up to 2 values"));
    }
    if !matches!(policy, "SingleStack" | "PreferDualStack" | "RequireDualStack") {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.push(FieldError::not_supported(&spec.child("ipFamilyPolicy"), policy, &supported));
    }
    let at = spec.child("clusterIPs");
    for (i, address) in addresses.iter().enumerate() {
        if address == "None" {
            if addresses.len() > 1 {
                errors.push(FieldError::invalid(
                    &at.index(i),
                    "None",
                    "may not be set to 'None' for LoadBalancer services",
                ));
            }
            continue;
        }
        match (family_of(address), families.get(i)) {
            (None, _) => errors.push(FieldError::invalid(
                &at.index(i),
                address,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            )),
            (Some(family), Some(wanted)) if family != wanted => {
                let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`");
                errors.push(FieldError::invalid(&at.index(i), address, detail));
            }
            _ => {}
        }
    }
    if addresses.len() == 2 && family_of(&addresses[0]) == family_of(&addresses[1]) {
        let detail = "may specify no more than one IP for each IP family, i.e. at most two";
        errors.push(FieldError::invalid(&at, Bad::json(&addresses), detail));
    }
    errors
}

/// Going single-stack with untouched lists means to drop the second entries.
fn shrink(old: &Value, addresses: &mut Vec<String>, families: &mut Vec<String>) {
    if *addresses == strings(old, "clusterIPs") {
        addresses.truncate(1);
    }
    if *families == strings(old, "ipFamilies") {
        families.truncate(1);
    }
}

fn policy_error(policy: &str, detail: &str) -> FieldError {
    let spec = Path::new("spec");
    FieldError::invalid(&spec.child("ipFamilyPolicy"), policy, detail)
}

fn shrunk(old: &Value, addresses: &[String], families: &[String], policy: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let reduced =
        |now: &[String], before: Vec<String>| !now.is_empty() && now.len() == 1 && before.len() == 2;
    if reduced(addresses, strings(old, "clusterIPs")) {
        errors.push(policy_error(policy, "must be 'SingleStack' to release the secondary cluster IP"));
    }
    if reduced(families, strings(old, "ipFamilies")) {
        errors.push(policy_error(policy, "must be 'SingleStack' to release the secondary IP family"));
    }
    errors
}

fn single_stack(addresses: &[String], families: &[String], policy: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if policy != "SingleStack" {
        return errors;
    }
    let head = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    if addresses.len() == 2 {
        errors.push(policy_error(policy, &format!("{head} cluster IPs are specified")));
    }
    if families.len() == 2 {
        errors.push(policy_error(policy, &format!("{head} IP families are specified")));
    }
    errors
}

fn families_of_addresses(
    addresses: &[String],
    families: &mut Vec<String>,
    configured: &Families,
) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let at = spec.child("clusterIPs");
    let mut errors = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        let Some(family) = family_of(address) else { break };
        if i < families.len() {
            continue;
        }
        if configured.contains(&family) {
            families.push(family.to_owned());
        } else {
            let detail = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&at.index(i), Bad::json(&addresses), detail));
        }
    }
    errors
}

fn configured_only(families: &[String], policy: &str, configured: &Families) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let at = spec.child("ipFamilies");
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && configured.len() < 2 {
        errors.push(policy_error(policy, "this cluster is not configured for dual-stack services"));
    }
    for (i, family) in families.iter().enumerate() {
        if !configured.contains(&family.as_str()) {
            errors.push(FieldError::invalid(&at.index(i), family, "not configured on this cluster"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, configured: &[&'static str], want: &str) {
        let mut service = Value::from(json!({"metadata": {"name": "s"}, "spec": spec}));
        let result =
            normalize(&mut service, None).and_then(|()| init(&mut service, None, &configured.to_vec()));
        let got = match result {
            Ok(()) => {
                format!("{} {}", strings(&service, "ipFamilies").join(","), text(&service, "ipFamilyPolicy"))
            }
            Err(error) => error.message,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn open_fields_are_filled() {
        let selector = json!({"a": "b"});
        check(json!({"selector": selector}), &["IPv4"], "IPv4 SingleStack");
        check(
            json!({"selector": selector, "ipFamilyPolicy": "PreferDualStack"}),
            &["IPv4", "IPv6"],
            "IPv4,IPv6 PreferDualStack",
        );
        check(json!({"clusterIP": "None"}), &["IPv4"], "IPv4,IPv6 RequireDualStack");
        check(
            json!({"selector": selector, "ipFamilyPolicy": "RequireDualStack"}),
            &["IPv4"],
            "Service \"s\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        );
        check(
            json!({"selector": selector, "ipFamilies": ["IPv6"]}),
            &["IPv4"],
            "Service \"s\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        );
    }
}
