//! What happens in a namespace while a controller manager is disturbed: workloads are made, changed and deleted, with
//! what depends on them. Each part ends when the controllers are done, and its end is told.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{Client, DeleteParams, Gvr, Patch, PatchParams, Propagation};
use serde_json::{Value, json};
use tokio::time::Instant;

use bench::hollow::RUN_ONCE;

use crate::end_state;

/// Longest time for a part. Upstream counts quotas anew every five minutes: a count that met a frozen cache waits for that.
const PATIENCE: Duration = Duration::from_secs(400);
/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A namespace in which the story is played.
pub struct Story<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
}

impl Story<'_> {
    /// Plays it all; the end of each part, in lines.
    pub async fn play(&self) -> Result<Vec<Vec<String>>> {
        let mut ends = Vec::new();
        self.make().await.context("making")?;
        ends.push(self.end("made").await?);
        self.change().await.context("changing")?;
        ends.push(self.end("changed").await?);
        self.delete().await.context("deleting")?;
        ends.push(self.end("deleted").await?);
        self.leave().await?;
        Ok(ends)
    }

    async fn make(&self) -> Result<()> {
        self.create(("", "v1", "namespaces"), json!({ "metadata": { "name": self.namespace } })).await?;
        let owner = json!({ "metadata": { "name": "owner" } });
        let owner = self.create(("", "v1", "configmaps"), owner).await?;
        let reference = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner });
        let quota = json!({ "metadata": { "name": "quota" }, "spec": { "hard": { "pods": "50" } } });
        self.create(("", "v1", "resourcequotas"), quota).await?;
        let dependent = json!({ "metadata": { "name": "dependent", "ownerReferences": [reference] } });
        self.create(("", "v1", "configmaps"), dependent).await?;
        let web = json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
        self.create(("", "v1", "services"), web).await?;
        let budget = json!({ "metadata": { "name": "web" }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } } });
        self.create(("policy", "v1", "poddisruptionbudgets"), budget).await?;
        self.create(("apps", "v1", "deployments"), workload("web", Some(3), json!({}))).await?;
        let db = workload("db", Some(2), json!({ "serviceName": "db" }));
        self.create(("apps", "v1", "statefulsets"), db).await?;
        self.create(("apps", "v1", "daemonsets"), workload("agent", None, json!({}))).await?;
        let mut job = json!({ "metadata": { "name": "batch" }, "spec": { "completions": 4, "parallelism": 2, "template": template("batch") } });
        job["spec"]["template"]["metadata"]["labels"][RUN_ONCE] = "".into();
        job["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
        self.create(("batch", "v1", "jobs"), job).await?;
        let mut old = workload("old", Some(2), json!({}));
        old["spec"]["selector"] = json!({ "app": "old" });
        self.create(("", "v1", "replicationcontrollers"), old).await?;
        Ok(())
    }

    async fn change(&self) -> Result<()> {
        let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": "other" }] } } } });
        for kind in ["deployments", "statefulsets", "daemonsets"] {
            let name = match kind {
                "deployments" => "web",
                "statefulsets" => "db",
                _ => "agent",
            };
            self.patch(("apps", "v1", kind), name, image.clone()).await?;
        }
        self.patch(("apps", "v1", "statefulsets"), "db", json!({ "spec": { "replicas": 3 } })).await?;
        self.patch(("", "v1", "replicationcontrollers"), "old", json!({ "spec": { "replicas": 1 } })).await?;
        self.remove(("", "v1", "configmaps"), "owner", Propagation::Foreground).await
    }

    async fn delete(&self) -> Result<()> {
        self.patch(("apps", "v1", "statefulsets"), "db", json!({ "spec": { "replicas": 1 } })).await?;
        self.remove(("apps", "v1", "deployments"), "web", Propagation::Background).await?;
        self.remove(("batch", "v1", "jobs"), "batch", Propagation::Foreground).await?;
        self.remove(("", "v1", "replicationcontrollers"), "old", Propagation::Orphan).await?;
        self.remove(("", "v1", "services"), "web", Propagation::Background).await
    }

    /// Deletes the namespace and waits until it is gone.
    async fn leave(&self) -> Result<()> {
        self.remove(("", "v1", "namespaces"), self.namespace, Propagation::Background).await?;
        let api = self.client.all::<k8s_openapi::api::core::v1::Namespace>();
        let begin = Instant::now();
        while api.get_opt(self.namespace).await?.is_some() {
            if begin.elapsed() > PATIENCE {
                bail!("the namespace is still there");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until the controllers are done, twice in a row with the same result.
    async fn end(&self, part: &str) -> Result<Vec<String>> {
        let begin = Instant::now();
        let mut last = Vec::new();
        loop {
            let objects = end_state::read(self.client, self.namespace).await?;
            let missing = end_state::unfinished(&objects).or_else(|| absent(part, &objects));
            if missing.is_none() {
                let now = end_state::told(&objects);
                if now == last {
                    return Ok(now);
                }
                last = now;
            }
            if begin.elapsed() > PATIENCE {
                bail!("{part}, but not done: {}", missing.unwrap_or_else(|| "it goes on changing".into()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn create(&self, kind: (&str, &str, &str), object: Value) -> Result<String> {
        let space = if kind.2 == "namespaces" { "" } else { self.namespace };
        let api = self.client.dynamic(&Gvr::new(kind.0, kind.1, kind.2), space);
        let made = api.create(&serde_json::from_value(object)?).await.with_context(|| kind.2.to_string())?;
        Ok(made.metadata.uid.unwrap_or_default())
    }

    async fn patch(&self, kind: (&str, &str, &str), name: &str, patch: Value) -> Result<()> {
        let api = self.client.dynamic(&Gvr::new(kind.0, kind.1, kind.2), self.namespace);
        api.patch(name, &Patch::Strategic(patch), &PatchParams::default()).await?;
        Ok(())
    }

    async fn remove(&self, kind: (&str, &str, &str), name: &str, propagation: Propagation) -> Result<()> {
        let space = if kind.2 == "namespaces" { "" } else { self.namespace };
        let params = DeleteParams { propagation: Some(propagation), ..DeleteParams::default() };
        Ok(self.client.dynamic(&Gvr::new(kind.0, kind.1, kind.2), space).delete(name, &params).await?)
    }
}

/// What the end of a part has or has not, beyond the state of each object.
fn absent(part: &str, objects: &end_state::Objects) -> Option<String> {
    let count = |plural: &str| objects.iter().filter(|(kind, _)| *kind == plural).count();
    let wanted: &[(&str, usize)] = match part {
        // Of config maps: that of the authorities, owner, dependent.
        "made" => &[("configmaps", 3), ("serviceaccounts", 1), ("replicasets", 1), ("pods", 14)],
        "changed" => &[("configmaps", 1), ("replicasets", 2), ("pods", 14)],
        "deleted" => &[("replicasets", 0), ("jobs", 0), ("endpointslices", 0), ("endpoints", 0), ("pods", 5)],
        _ => &[],
    };
    let missed = wanted.iter().find(|(plural, want)| count(plural) != *want)?;
    Some(format!("{} {} of {}", count(missed.0), missed.0, missed.1))
}

fn template(name: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": name } },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [{ "name": "c", "image": "pause" }] },
    })
}

fn workload(name: &str, replicas: Option<usize>, spec: Value) -> Value {
    let mut object = json!({
        "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": { "app": name } }, "template": template(name) },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}
