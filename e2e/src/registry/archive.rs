//! The images of a docker archive, as a registry names them. Blobs stay in the file; only their places are kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Media type of the manifests served.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Where a blob's bytes lie in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub size: u64,
}

/// All that is served: manifests by name and by digest, blobs by digest.
pub struct Archive {
    /// Digest of the manifest, by full name with tag (`registry.k8s.io/pause:3.10`).
    pub tags: HashMap<String, String>,
    /// Manifests by digest (`sha256:...`).
    pub manifests: HashMap<String, Vec<u8>>,
    /// Blobs by digest.
    pub blobs: HashMap<String, Place>,
}

/// One image as the archive's `manifest.json` lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// The part of an image's configuration that is read.
#[derive(Deserialize)]
struct Config {
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

impl Archive {
    /// Reads the archive's table of contents and its images' configurations.
    ///
    /// # Errors
    /// When the file is no docker archive, or lacks a file that its manifest names.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let places = places(&mut file).with_context(|| format!("reading {}", path.display()))?;
        let place = |name: &str| {
            places.get(name).copied().with_context(|| format!("{} has no {name}", path.display()))
        };
        let entries: Vec<Entry> = serde_json::from_slice(&read(&mut file, place("manifest.json")?)?)
            .with_context(|| format!("manifest.json of {}", path.display()))?;
        let mut archive = Self { tags: HashMap::new(), manifests: HashMap::new(), blobs: HashMap::new() };
        for entry in entries {
            let config_place = place(&entry.config)?;
            let config = read(&mut file, config_place)?;
            let ids = serde_json::from_slice::<Config>(&config)
                .with_context(|| format!("{} of {}", entry.config, path.display()))?
                .rootfs
                .diff_ids;
            ensure!(ids.len() == entry.layers.len(), "{}: layers and their digests differ", entry.config);
            let layers: Vec<Place> = entry.layers.iter().map(|l| place(l)).collect::<Result<_>>()?;
            archive.add(&entry.repo_tags, (digest(&config), config_place), ids.into_iter().zip(layers));
        }
        Ok(archive)
    }

    fn add(
        &mut self,
        tags: &[String],
        config: (String, Place),
        layers: impl Iterator<Item = (String, Place)>,
    ) {
        let descriptor = |kind: &str, digest: &str, size: u64| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
        let layers: Vec<(String, Place)> = layers.collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("config.v1+json", &config.0, config.1.size),
            "layers": layers.iter().map(|(id, place)| descriptor("layer.v1.tar", id, place.size)).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes();
        let id = digest(&manifest);
        self.tags.extend(tags.iter().map(|tag| (tag.clone(), id.clone())));
        self.manifests.insert(id, manifest);
        self.blobs.extend(layers);
        self.blobs.insert(config.0, config.1);
    }

    /// The manifest of `name` (registry and repository) at a tag or digest, with its digest.
    pub fn manifest(&self, name: &str, reference: &str) -> Option<(&str, &[u8])> {
        let id = if reference.starts_with("sha256:") {
            reference
        } else {
            self.tags.get(&format!("{name}:{reference}"))?.as_str()
        };
        let (id, manifest) = self.manifests.get_key_value(id)?;
        Some((id, manifest))
    }
}

fn places(file: &mut File) -> Result<HashMap<String, Place>> {
    let mut tar = tar::Archive::new(file);
    let mut places = HashMap::new();
    for entry in tar.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.display().to_string();
        places.insert(name, Place { offset: entry.raw_file_position(), size: entry.size() });
    }
    Ok(places)
}

fn read(file: &mut File, place: Place) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(place.offset))?;
    let mut bytes = Vec::new();
    file.take(place.size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of one image with one layer.
    fn archive(layer: &[u8]) -> Result<(tempfile::NamedTempFile, String)> {
        let id = digest(layer);
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [id]}}).to_string();
        let manifest =
            json!([{"Config": "c.json", "RepoTags": ["registry.k8s.io/a/b:1"], "Layers": ["l.tar"]}])
                .to_string();
        let file = tempfile::NamedTempFile::new()?;
        let mut tar = tar::Builder::new(file.reopen()?);
        for (name, data) in
            [("l.tar", layer), ("c.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]
        {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, name, data)?;
        }
        tar.finish()?;
        Ok((file, id))
    }

    #[test]
    fn serves_by_tag_and_by_digest() -> Result<()> {
        let (file, layer) = archive(b"layer bytes")?;
        let archive = Archive::open(file.path())?;
        let (id, manifest) = archive.manifest("registry.k8s.io/a/b", "1").context("by tag")?;
        assert_eq!(archive.manifest("registry.k8s.io/a/b", id), Some((id, manifest)));
        assert_eq!(archive.manifest("registry.k8s.io/a/b", "2"), None);
        let place = archive.blobs[&layer];
        assert_eq!(read(&mut file.reopen()?, place)?, b"layer bytes");
        Ok(())
    }

    #[test]
    fn names_the_file_that_is_missing() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        tar::Builder::new(file.reopen()?).finish()?;
        let error = Archive::open(file.path()).err().context("an empty archive was read")?;
        assert!(format!("{error:#}").ends_with("has no manifest.json"), "{error:#}");
        Ok(())
    }
}
