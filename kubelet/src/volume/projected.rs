//! The files of projected volumes. Upstream: collectData in pkg/volume/projected/projected.go, v1.37.

use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, Pod, PodCertificateProjection, ProjectedVolumeSource,
    ServiceAccountTokenProjection, VolumeProjection,
};
use machinery::golang;

use super::manager::{Context, VolumeManager, found};
use super::payload::{self, Defaults, File, Files};
use crate::pod::view::PodView;

impl VolumeManager {
    /// Files of all sources; every source that fails is named.
    pub(super) async fn projected(
        &self,
        pod: &Pod,
        volume: &str,
        source: &ProjectedVolumeSource,
        context: &Context<'_>,
    ) -> Result<Files, String> {
        let defaults = Defaults::new(source.default_mode, source.default_user);
        let mut out = Files::new();
        let mut errors = Vec::new();
        for (index, part) in source.sources.iter().flatten().enumerate() {
            let made = match (&part.cluster_trust_bundle, &part.pod_certificate) {
                (Some(part), _) => self.trust_anchors(pod, part, defaults).await,
                (None, Some(part)) => self.certificate(pod, (volume, index), part, defaults),
                (None, None) => self.projection(pod, part, defaults, context).await,
            };
            match made {
                Ok(files) => out.extend(files),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(out) } else { Err(golang::aggregate(&errors)) }
    }

    async fn projection(
        &self,
        pod: &Pod,
        part: &VolumeProjection,
        defaults: Defaults,
        context: &Context<'_>,
    ) -> Result<Files, String> {
        if let Some(source) = &part.config_map {
            let optional = source.optional.unwrap_or(false);
            let fetched = self.config_map(pod, &source.name).await;
            return payload::config_map(
                found(&fetched, optional)?,
                source.items.as_deref(),
                optional,
                defaults,
            )
            .map_err(|e| e.to_string());
        }
        if let Some(source) = &part.secret {
            let optional = source.optional.unwrap_or(false);
            let fetched = self.secret(pod, &source.name).await;
            return payload::secret(found(&fetched, optional)?, source.items.as_deref(), optional, defaults)
                .map_err(|e| e.to_string());
        }
        if let Some(source) = &part.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            return payload::downward_api(items, pod, context.addresses, context.node, defaults)
                .map_err(|e| e.to_string());
        }
        if let Some(source) = &part.service_account_token {
            return self.token(pod, source, defaults, context).await;
        }
        Err("a source of the projected volume has a type that this kubelet does not support yet".to_owned())
    }

    async fn token(
        &self,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
        defaults: Defaults,
        context: &Context<'_>,
    ) -> Result<Files, String> {
        let client = self.client.as_ref().ok_or("no API server is configured, so there are no tokens")?;
        let audience = source.audience.as_deref().unwrap_or_default();
        let token = self.tokens.get(client, pod, audience, source.expiration_seconds, context.now).await?;
        let owner = owner(pod, defaults, source.user);
        Ok(Files::from([(source.path.clone(), owner.file(token.into_bytes()))]))
    }

    async fn trust_anchors(
        &self,
        pod: &Pod,
        source: &ClusterTrustBundleProjection,
        defaults: Defaults,
    ) -> Result<Files, String> {
        let anchors = self.trust_bundles.anchors(source).await?;
        let owner = owner(pod, defaults, source.user);
        Ok(Files::from([(source.path.clone(), owner.file(anchors.into_bytes()))]))
    }

    fn certificate(
        &self,
        pod: &Pod,
        (volume, index): (&str, usize),
        source: &PodCertificateProjection,
        defaults: Defaults,
    ) -> Result<Files, String> {
        let certificates = self.certificates.as_ref().ok_or("unimplemented")?;
        let (key, chain) = certificates.bundle(pod, volume, index)?;
        Ok(certificate_files(source, &key, &chain, owner(pod, defaults, source.user)))
    }
}

/// Key and chain at every path that the source names.
fn certificate_files(source: &PodCertificateProjection, key: &[u8], chain: &[u8], owner: Owner) -> Files {
    let all = [
        (&source.credential_bundle_path, [key, chain].concat()),
        (&source.key_path, key.to_vec()),
        (&source.certificate_chain_path, chain.to_vec()),
    ];
    all.into_iter()
        .filter_map(|(path, data)| Some((path.clone().filter(|p| !p.is_empty())?, owner.file(data))))
        .collect()
}

/// Who may read a credential.
#[derive(Clone, Copy)]
struct Owner {
    user: Option<u32>,
    mode: u32,
}

impl Owner {
    fn file(self, data: Vec<u8>) -> File {
        File { data, mode: self.mode, user: self.user }
    }
}

/// The source's user, else the volume's, else the one that all containers run as.
fn owner(pod: &Pod, defaults: Defaults, user: Option<i64>) -> Owner {
    let user = user.and_then(|u| u32::try_from(u).ok()).or(defaults.user).or(only_user(pod));
    let grouped = pod.spec().security_context.as_ref().is_some_and(|s| s.fs_group.is_some());
    // The group's right to read is added with the group.
    Owner { user, mode: if user.is_some() || grouped { 0o600 } else { defaults.mode } }
}

/// The user of all containers, if they agree on one; tokens then belong to it.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec().security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = pod
        .all_containers()
        .map(|c| c.to_container().security_context.and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn certificates_go_where_they_are_wanted() {
        let files = |source| {
            let source: PodCertificateProjection = serde_json::from_value(source).unwrap();
            let owner = Owner { user: Some(7), mode: 0o600 };
            let files = certificate_files(&source, b"k", b"c", owner);
            assert!(files.values().all(|f| (f.user, f.mode) == (Some(7), 0o600)));
            files
                .into_iter()
                .map(|(p, f)| format!("{p}={}", String::from_utf8(f.data).unwrap()))
                .collect::<Vec<_>>()
        };
        let with = |mut paths: serde_json::Value| {
            paths["signerName"] = json!("s/s");
            paths["keyType"] = json!("ED25519");
            files(paths)
        };
        assert_eq!(with(json!({"credentialBundlePath": "b", "keyPath": ""})), ["b=kc"]);
        assert_eq!(with(json!({"certificateChainPath": "c", "keyPath": "k"})), ["c=c", "k=k"]);
    }
}
