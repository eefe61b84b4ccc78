//! Files of volumes that would cover each other. Upstream: `pkg/api/pod/warnings.go`
//! `warningsForOverlappingVirtualPaths`.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use crate::validation::field::quote;
use crate::validation::{items, text};

/// A path in a volume and what puts a file there.
#[derive(Clone, PartialEq)]
struct Placed {
    path: String,
    source: String,
}

impl Placed {
    fn told(&self) -> String {
        let path = quote(&self.path);
        if self.source.is_empty() { path } else { format!("{path} ({})", self.source) }
    }

    /// Whether one is the other, or a directory on the way to it.
    fn covers(&self, other: &Placed) -> bool {
        let (own, other_path) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty()
            && !other.path.is_empty()
            && (self == other || own.starts_with(&other_path) || other_path.starts_with(&own))
    }
}

/// About all volumes of a pod.
pub(super) fn overlaps(volumes: &[Volume]) -> Vec<String> {
    let mut warnings = Vec::new();
    for volume in volumes {
        let mut tell = |kind: &str, body: String| {
            warnings.push(format!("volume {} ({kind}): overlapping paths: {body}", quote(&volume.name)));
        };
        if let Some(map) = &volume.config_map {
            let kind = format!("ConfigMap {}", quote(&map.name));
            of_keys(items(&map.items), "").into_iter().for_each(|body| tell(&kind, body));
        }
        if let Some(secret) = &volume.secret {
            let kind = format!("Secret {}", quote(text(&secret.secret_name)));
            of_keys(items(&secret.items), "").into_iter().for_each(|body| tell(&kind, body));
        }
        if let Some(downward) = &volume.downward_api {
            let placed = files(items(&downward.items), "");
            among(&mut Vec::new(), placed).into_iter().for_each(|body| tell("DownwardAPI", body));
        }
        let sources = volume.projected.as_ref().map(|p| items(&p.sources)).unwrap_or_default();
        let mut before = Vec::new();
        for source in sources {
            if *source == VolumeProjection::default() {
                warnings.push(format!("volume {} (Projected) has no sources provided", quote(&volume.name)));
                continue;
            }
            for body in among(&mut before, projected(source)) {
                let volume = quote(&volume.name);
                warnings.push(format!("volume {volume} (Projected): overlapping paths: {body}"));
            }
        }
    }
    warnings
}

fn of_keys(list: &[KeyToPath], source: &str) -> Vec<String> {
    among(&mut Vec::new(), keys(list, source))
}

fn keys(list: &[KeyToPath], source: &str) -> Vec<Placed> {
    list.iter().map(|k| Placed { path: k.path.clone(), source: source.to_owned() }).collect()
}

fn files(list: &[DownwardAPIVolumeFile], source: &str) -> Vec<Placed> {
    list.iter().map(|f| Placed { path: f.path.clone(), source: source.to_owned() }).collect()
}

fn projected(source: &VolumeProjection) -> Vec<Placed> {
    let one = |path: &str, source: String| Placed { path: path.to_owned(), source };
    if let Some((map, list)) = source.config_map.as_ref().and_then(|m| Some((m, m.items.as_ref()?))) {
        return keys(list, &format!("ConfigMap {}", quote(&map.name)));
    }
    if let Some((secret, list)) = source.secret.as_ref().and_then(|s| Some((s, s.items.as_ref()?))) {
        return keys(list, &format!("Secret {}", quote(&secret.name)));
    }
    if let Some(list) = source.downward_api.as_ref().and_then(|d| d.items.as_ref()) {
        return files(list, "DownwardAPI");
    }
    if let Some(token) = &source.service_account_token {
        return vec![one(&token.path, "ServiceAccountToken".to_owned())];
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        let name = bundle.name.as_deref().unwrap_or(text(&bundle.signer_name));
        return vec![one(&bundle.path, format!("ClusterTrustBundle {}", quote(name)))];
    }
    let Some(certificate) = &source.pod_certificate else { return Vec::new() };
    let paths = [
        (text(&certificate.certificate_chain_path), "PodCertificate chain"),
        (text(&certificate.key_path), "PodCertificate key"),
        (text(&certificate.credential_bundle_path), "PodCertificate credential bundle"),
    ];
    paths.into_iter().filter(|(p, _)| !p.is_empty()).map(|(p, s)| one(p, s.to_owned())).collect()
}

/// Which of the paths meet those before, or each other.
fn among(before: &mut Vec<Placed>, placed: Vec<Placed>) -> Vec<String> {
    let mut told = Vec::new();
    for mut one in placed {
        one.path.truncate(one.path.trim_end_matches('/').len());
        let met = before.iter().filter(|other| one.covers(other));
        told.extend(met.map(|other| format!("{} with {}", one.told(), other.told())));
        before.push(one);
    }
    told
}
