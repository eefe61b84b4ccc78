//! Warnings about valid objects: deprecated, ineffective and surprising values, by kind and with upstream's texts.
//!
//! One file per group of kinds, on typed objects that were defaulted and validated. Whether a write of a subresource or
//! an unchanged object is warned about is for the strategies to say. Start at [`pod`].
//! Upstream: `pkg/api/*/warnings.go`, `pkg/api/*/util.go`, `pkg/registry/*/*/strategy.go` `WarningsOn*`.

pub mod ip;
pub mod networking;
pub mod node;
pub mod pod;
mod pod_containers;
mod pod_paths;
pub mod storage;
pub mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::validation::content;
use crate::validation::core::resources::amount;
use crate::validation::field::{Path, quote};

/// An amount of bytes that is no whole number.
fn fractional(amounts: &Option<BTreeMap<String, Text>>, name: &str, path: &Path) -> Option<String> {
    let amount = amount(amounts.as_ref()?.get(name)?);
    (amount.milli_value() % 1000 != 0).then(|| {
        let value = quote(&amount.canonical());
        format!("{}: fractional byte value {value} is invalid, must be an integer", path.key(name))
    })
}

/// A name that is part of host names and is no DNS label. `of` tells whose: `the Pod's hostname`.
pub fn name_in_hostnames(name: &str, of: &str) -> Option<String> {
    let refusals = content::dns_label(name);
    (!refusals.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {of}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            refusals.join(" ")
        )
    })
}
