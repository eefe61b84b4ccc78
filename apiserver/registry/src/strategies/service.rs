//! Services: addresses and ports are claimed before the object is stored, and freed with it; fields that a changed type
//! makes meaningless are dropped when the client left them alone.
//! Upstream: `pkg/registry/core/service/{strategy.go,storage/storage.go}`.

use ::api::validation::core::service as validation;
use ::api::validation::field::Error as FieldError;
use ::api::validation::objectmeta::{self, NameRule};
use ::api::warnings;
use async_trait::async_trait;
use machinery::{List, Value};

use super::{validated, validated_update, warned};
use crate::errors::ApiError;
use crate::services::{
    self, Changes, Claims, addresses, allocated_addresses, families, needs_cluster_ip,
    needs_health_check_port, needs_node_port, ports, set, strings, text,
};
use crate::strategy::{Call, Finish, Strategy, keep, keep_all_but_status};

/// The strategy.
pub struct Services;

#[async_trait]
impl Strategy for Services {
    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_label
    }

    fn prepare_for_create(&self, _call: &Call<'_>, service: &mut Value) {
        service.remove_path(&["status"]);
    }

    /// What is read back of a balanced service says how its addresses work, also when it was not balanced before
    /// (`SetDefaults_Service`).
    fn canonicalize(&self, service: &mut Value) {
        if service.str_at(&["spec", "type"]) != Some("LoadBalancer") {
            return;
        }
        let silent = |i: &Value| {
            i.str_at(&["ip"]).is_some_and(|ip| !ip.is_empty()) && i.get("ipMode").is_none_or(Value::is_null)
        };
        let at = ["status", "loadBalancer", "ingress"];
        if !service.list_at(&at).is_some_and(|list| list.iter().any(silent)) {
            return;
        }
        let Some(Value::List(list)) = service.get_path_mut(&at) else { return };
        for ingress in list.iter_mut().filter(|i| silent(i)) {
            if let Value::Map(map) = ingress {
                map.insert("ipMode", "VIP");
            }
        }
    }

    fn validate(&self, _call: &Call<'_>, service: &Value) -> Vec<FieldError> {
        validated(service, validation::validate_service)
    }

    fn prepare_for_update(&self, call: &Call<'_>, service: &mut Value, old: &Value) {
        if call.is_status() {
            return keep_all_but_status(service, old);
        }
        keep(service, old, "status");
        drop_type_dependent_fields(service, old);
    }

    fn warnings_on_create(&self, _call: &Call<'_>, service: &Value) -> Vec<String> {
        warned(service, warnings::networking::service)
    }

    fn warnings_on_update(&self, call: &Call<'_>, service: &Value, _old: &Value) -> Vec<String> {
        let tell = if call.is_status() {
            warnings::networking::service_status
        } else {
            warnings::networking::service
        };
        warned(service, tell)
    }

    fn validate_update(&self, call: &Call<'_>, service: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated_update(service, old, validation::validate_service_status_update);
        }
        validated_update(service, old, validation::validate_service_update)
    }

    async fn begin_create(
        &self,
        call: &Call<'_>,
        service: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        families::normalize(service, None)?;
        let mut changes = Changes::default();
        let result = claim(call, service, None, &mut changes).await;
        settle(call, result, changes).await
    }

    async fn begin_update(
        &self,
        call: &Call<'_>,
        service: &mut Value,
        old: &Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        if !call.subresource.is_empty() {
            return Ok(None);
        }
        keep_allocated(service, old)?;
        families::normalize(service, Some(old))?;
        let mut changes = Changes::default();
        let result = claim(call, service, Some(old), &mut changes).await;
        settle(call, result, changes).await
    }

    async fn after_delete(&self, call: &Call<'_>, service: &Value) {
        services::release(call.core, &allocated_addresses(service), &ports::held_ports(service)).await;
    }
}

/// A failed claim gives back at once what it got so far.
async fn settle(
    call: &Call<'_>,
    result: Result<(), ApiError>,
    changes: Changes,
) -> Result<Option<Box<dyn Finish>>, ApiError> {
    match result {
        Ok(()) => Ok(Claims::boxed(call, changes)),
        Err(error) => {
            services::release(call.core, &changes.addresses, &changes.ports).await;
            Err(error)
        }
    }
}

async fn claim(
    call: &Call<'_>,
    service: &mut Value,
    old: Option<&Value>,
    changes: &mut Changes,
) -> Result<(), ApiError> {
    families::init(service, old, &addresses::configured(call.core))?;
    let held = old.map(allocated_addresses).unwrap_or_default();
    if needs_cluster_ip(service) {
        addresses::allocate(call, service, &held, changes).await?;
    }
    let used = allocated_addresses(service);
    let kept_by_name = old.is_some_and(|o| !needs_cluster_ip(service) && needs_cluster_ip(o));
    changes.freed_addresses = held.into_iter().filter(|ip| kept_by_name || !used.contains(ip)).collect();
    let held = old.map(ports::held_ports).unwrap_or_default();
    ports::allocate(call, service, &held, changes).await
}

/// `patchAllocatedValues`: a client that leaves out what the server allocated means to keep it.
fn keep_allocated(service: &mut Value, old: &Value) -> Result<(), ApiError> {
    if needs_cluster_ip(old) && needs_cluster_ip(service) {
        if text(service, "clusterIP").is_empty() {
            set(service, "clusterIP", text(old, "clusterIP").to_owned())?;
        }
        if strings(service, "clusterIPs").is_empty() {
            set(service, "clusterIPs", strings(old, "clusterIPs"))?;
        }
    }
    if needs_node_port(old) && needs_node_port(service) {
        keep_node_ports(service, old);
    }
    let health = |v: &Value| v.i64_at(&["spec", "healthCheckNodePort"]).unwrap_or(0);
    if needs_health_check_port(old) && needs_health_check_port(service) && health(service) == 0 {
        set(service, "healthCheckNodePort", health(old))?;
    }
    Ok(())
}

fn keep_node_ports(service: &mut Value, old: &Value) {
    let before: List = old.list_at(&["spec", "ports"]).cloned().unwrap_or_default();
    let port = |p: &Value| p.i64_at(&["nodePort"]).unwrap_or(0);
    let used: Vec<i64> =
        service.list_at(&["spec", "ports"]).into_iter().flat_map(|l| l.iter()).map(port).collect();
    let Some(Value::List(ports)) = service.get_path_mut(&["spec", "ports"]) else { return };
    for entry in ports.iter_mut().filter(|p| port(p) == 0) {
        let name = entry.str_at(&["name"]).unwrap_or("").to_owned();
        let same = before.iter().rev().find(|p| p.str_at(&["name"]).unwrap_or("") == name);
        let kept = same.map_or(0, port);
        if let (true, Value::Map(map)) = (kept != 0 && !used.contains(&kept), entry) {
            map.insert("nodePort", kept);
        }
    }
}

/// `dropTypeDependentFields`.
fn drop_type_dependent_fields(service: &mut Value, old: &Value) {
    let unchanged = |service: &Value, field: &str| {
        let of = |v: &Value| v.get_path(&["spec", field]).cloned().unwrap_or_default();
        of(service).semantic_eq(&of(old))
    };
    let mut fields: Vec<&str> = Vec::new();
    if needs_cluster_ip(old) && !needs_cluster_ip(service) {
        fields.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    }
    if needs_health_check_port(old) && !needs_health_check_port(service) {
        fields.push("healthCheckNodePort");
    }
    let balancer = |v: &Value| text(v, "type") == "LoadBalancer";
    if balancer(old) && !balancer(service) {
        fields.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    let external = |v: &Value| {
        matches!(text(v, "type"), "NodePort" | "LoadBalancer")
            || text(v, "type") == "ClusterIP" && !strings(v, "externalIPs").is_empty()
    };
    if external(old) && !external(service) {
        fields.push("externalTrafficPolicy");
    }
    for field in fields {
        if unchanged(service, field) {
            service.remove_path(&["spec", field]);
        }
    }
    let had_ports = matches!(text(old, "type"), "NodePort" | "LoadBalancer");
    if had_ports && !matches!(text(service, "type"), "NodePort" | "LoadBalancer") {
        drop_node_ports(service, old);
    }
    if !balancer(service) {
        service.remove_path(&["status", "loadBalancer"]);
    }
}

/// Node ports go when the client named none but the old ones.
fn drop_node_ports(service: &mut Value, old: &Value) {
    let ports = |v: &Value| -> Vec<i64> {
        let list = v.list_at(&["spec", "ports"]).into_iter().flat_map(|l| l.iter());
        list.filter_map(|p| p.i64_at(&["nodePort"])).filter(|p| *p != 0).collect()
    };
    let before = ports(old);
    if !ports(service).iter().all(|p| before.contains(p)) {
        return;
    }
    if let Some(Value::List(list)) = service.get_path_mut(&["spec", "ports"]) {
        for entry in list.iter_mut() {
            entry.remove_path(&["nodePort"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn allocated_values_are_kept_and_dropped() {
        let old = Value::from(
            json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"],
            "externalTrafficPolicy": "Cluster", "ports": [{"name": "a", "port": 80, "nodePort": 30001}]}}),
        );
        let mut new =
            Value::from(json!({"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 81}]}}));
        keep_allocated(&mut new, &old).unwrap();
        assert_eq!(text(&new, "clusterIP"), "10.0.0.5");
        assert_eq!(ports::held_ports(&new), [30001]);
        let mut plain = old.clone();
        set(&mut plain, "type", "ClusterIP").unwrap();
        drop_type_dependent_fields(&mut plain, &old);
        assert!(ports::held_ports(&plain).is_empty());
        assert_eq!(text(&plain, "externalTrafficPolicy"), "");
    }
}
