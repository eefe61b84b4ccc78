//! From chosen devices to what is written to claims. Upstream: the second half of Allocate, createNodeSelector.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
};

use super::search::{Chosen, Search};
use super::{Features, Problem, capacity};

impl Search<'_> {
    /// One allocation for each claim.
    pub fn results(&self) -> Result<Vec<AllocationResult>, Problem> {
        (0..self.claims.len()).map(|claim| self.result(claim)).collect()
    }

    fn result(&self, claim: usize) -> Result<AllocationResult, Problem> {
        let node_selector = self.node_selector(claim).map_err(|e| {
            let name = self.claims[claim].metadata.name.as_deref().unwrap_or_default();
            Problem::Fatal(format!("create NodeSelector for claim {name}: {e}"))
        })?;
        let list = |l: Vec<_>| Some(l).filter(|l| !l.is_empty());
        let results: Vec<_> = self.chosen[claim].iter().map(|c| self.device(claim, c)).collect();
        let config = self.config(claim);
        Ok(AllocationResult {
            allocation_timestamp: None,
            devices: Some(DeviceAllocationResult {
                config: Some(config).filter(|c| !c.is_empty()),
                results: list(results),
            }),
            node_selector,
        })
    }

    fn device(&self, claim: usize, chosen: &Chosen) -> DeviceRequestAllocationResult {
        let c = &self.candidates[chosen.candidate];
        let way = &self.wanted[claim][chosen.of.0].ways[chosen.of.1];
        let Features { binding, optional_node_operations: skips, .. } = self.supply.features;
        DeviceRequestAllocationResult {
            admin_access: way.admin.then_some(true),
            binding_conditions: c.device.binding_conditions.clone().filter(|_| binding),
            binding_failure_conditions: c.device.binding_failure_conditions.clone().filter(|_| binding),
            consumed_capacity: chosen.amounts.as_ref().filter(|a| !a.is_empty()).map(capacity::written),
            device: c.id.device.into(),
            driver: c.id.driver.into(),
            pool: c.id.pool.into(),
            request: way.full_name(),
            share_id: chosen.amounts.is_some().then(self.supply.new_share),
            skip_node_operations: c
                .slice
                .spec
                .skip_node_operations
                .clone()
                .filter(|l| skips && !l.is_empty()),
            tolerations: way.tolerations.cloned(),
        }
    }

    /// Configuration of classes, each once, then that of the claim, as far as it is about what was chosen.
    fn config(&self, claim: usize) -> Vec<DeviceAllocationConfiguration> {
        let wanted = &self.wanted[claim];
        let mut all: Vec<DeviceAllocationConfiguration> = Vec::new();
        let mut known: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
        for way in wanted.iter().filter_map(|w| w.taken()) {
            if let Some((_, range)) = known.iter().find(|(name, _)| *name == way.class_name) {
                for config in &mut all[range.clone()] {
                    config.requests.get_or_insert_default().push(way.full_name());
                }
                continue;
            }
            let start = all.len();
            let class = way.class.as_ref().and_then(|c| c.spec.as_ref());
            all.extend(class.into_iter().flat_map(|s| s.config.iter().flatten()).map(|c| {
                DeviceAllocationConfiguration {
                    opaque: c.opaque.clone(),
                    requests: Some(vec![way.full_name()]),
                    source: "FromClass".into(),
                }
            }));
            known.push((way.class_name, start..all.len()));
        }
        let spec = self.claims[claim].spec.as_ref().and_then(|s| s.devices.as_ref());
        let own = spec.into_iter().flat_map(|d| d.config.iter().flatten()).filter(|c| {
            let names = c.requests.as_deref().unwrap_or_default();
            names.is_empty() || wanted.iter().any(|w| names.iter().any(|n| w.is_named(n)))
        });
        all.extend(own.map(|c| DeviceAllocationConfiguration {
            opaque: c.opaque.clone(),
            requests: c.requests.clone(),
            source: "FromClaim".into(),
        }));
        // What is about every request names none.
        for config in &mut all {
            let names = config.requests.as_deref().unwrap_or_default();
            if wanted.iter().all(|w| names.iter().any(|n| w.is_named(n))) {
                config.requests = None;
            }
        }
        all
    }

    /// Where the devices can be used: the node, or what their slices say.
    fn node_selector(&self, claim: usize) -> Result<Option<NodeSelector>, String> {
        let mut term = NodeSelectorTerm::default();
        for chosen in &self.chosen[claim] {
            let c = &self.candidates[chosen.candidate];
            let spec = &c.slice.spec;
            let (node, selector) = match spec.per_device_node_selection {
                Some(true) => (&c.device.node_name, &c.device.node_selector),
                _ => (&spec.node_name, &spec.node_selector),
            };
            let binds = c.device.binds_to_node == Some(true) && !self.supply.features.oldest();
            if node.is_some() || binds {
                return Ok(Some(this_node(self.site.name)));
            }
            match selector.as_ref().map(|s| s.node_selector_terms.as_slice()) {
                None | Some([]) => {}
                Some([own]) => {
                    add(own.match_fields.as_ref(), &mut term.match_fields);
                    add(own.match_expressions.as_ref(), &mut term.match_expressions);
                }
                Some(terms) => {
                    return Err(format!("unsupported ResourceSlice.NodeSelector with {} terms", terms.len()));
                }
            }
        }
        let says = term.match_fields.is_some() || term.match_expressions.is_some();
        Ok(says.then(|| NodeSelector { node_selector_terms: vec![term] }))
    }
}

fn this_node(name: &str) -> NodeSelector {
    let field = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![name.into()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), ..NodeSelectorTerm::default() };
    NodeSelector { node_selector_terms: vec![term] }
}

/// Adds requirements that are not there yet.
fn add(from: Option<&Vec<NodeSelectorRequirement>>, to: &mut Option<Vec<NodeSelectorRequirement>>) {
    let set = |r: &NodeSelectorRequirement| {
        r.values.iter().flatten().cloned().collect::<std::collections::BTreeSet<String>>()
    };
    for new in from.into_iter().flatten() {
        let known = to.get_or_insert_default();
        let same = |k: &NodeSelectorRequirement| {
            k.key == new.key && k.operator == new.operator && set(k) == set(new)
        };
        if !known.iter().any(same) {
            known.push(new.clone());
        }
    }
}
