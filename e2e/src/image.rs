//! Builds the two images a cluster without a registry needs, and packs images as one archive for the runtime.
//!
//! `pause` holds a pod's namespaces; `busybox` runs the sample and the tests. Both come from Debian's packages
//! (gcc, busybox-static). The conformance suite's images are in [`testimages`](crate::testimages).

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The sandbox image's name.
pub const PAUSE: &str = "corten.local/pause:1";
/// The sample's image.
pub const BUSYBOX: &str = "corten.local/busybox:1";

const PAUSE_SOURCE: &str = r"#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void down(int s) { (void)s; exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, down); signal(SIGTERM, down); signal(SIGCHLD, reap); for (;;) pause(); }
";

/// One image: its names, runtime configuration and layers, lowest first.
pub(crate) struct Image {
    pub names: Vec<String>,
    pub config: serde_json::Value,
    pub layers: Vec<Rc<[u8]>>,
}

/// Writes both images to `archive`, unless it is there already.
pub fn build(archive: &Path) -> Result<()> {
    if archive.exists() {
        return Ok(());
    }
    let work = archive.parent().context("the image archive needs a folder")?;
    fs::create_dir_all(work)?;
    write(archive, &[pause_image(&[PAUSE], work)?, busybox_image(BUSYBOX)?])
}

/// Writes `images` to `archive`, which is there whole or not at all.
pub(crate) fn write(archive: &Path, images: &[Image]) -> Result<()> {
    let partial = archive.with_extension("partial");
    pack(&partial, images)?;
    fs::rename(&partial, archive).with_context(|| format!("moving {} into place", archive.display()))
}

/// The environment of every image.
pub(crate) const PATH: [&str; 1] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// The image of sandboxes, compiled in the folder `work`.
pub(crate) fn pause_image(names: &[&str], work: &Path) -> Result<Image> {
    Ok(Image {
        names: names.iter().map(ToString::to_string).collect(),
        config: json!({"Entrypoint": ["/pause"], "User": "65535:65535", "Env": PATH}),
        layers: vec![layer(&[File::program("pause", pause(work)?)])?],
    })
}

/// Busybox with all its applets.
pub(crate) fn busybox_image(name: &str) -> Result<Image> {
    Ok(Image {
        names: vec![name.to_string()],
        config: json!({"Cmd": ["sh"], "Env": PATH}),
        layers: vec![busybox()?],
    })
}

/// One entry of a layer.
pub(crate) enum File {
    Program { path: String, data: Vec<u8>, mode: u32 },
    Text { path: String, data: String },
    Link { path: String, target: String },
    Folder { path: String, mode: u32 },
}

impl File {
    pub(crate) fn program(path: &str, data: Vec<u8>) -> Self {
        Self::Program { path: path.to_string(), data, mode: 0o755 }
    }
}

fn pause(work: &Path) -> Result<Vec<u8>> {
    compile("pause", PAUSE_SOURCE, work)
}

/// A program from one C source, for images without libraries.
pub(crate) fn compile(name: &str, text: &str, work: &Path) -> Result<Vec<u8>> {
    let (source, binary) = (work.join(format!("{name}.c")), work.join(name));
    fs::write(&source, text)?;
    let status = Command::new("gcc").args(["-Os", "-static", "-s", "-o"]).arg(&binary).arg(&source).status();
    ensure!(
        status.context("running gcc (apt-get install gcc)")?.success(),
        "gcc could not compile {source:?}"
    );
    Ok(fs::read(binary)?)
}

fn busybox() -> Result<Rc<[u8]>> {
    let program =
        fs::read("/bin/busybox").context("reading /bin/busybox (apt-get install busybox-static)")?;
    let list = Command::new("/bin/busybox").arg("--list").output()?;
    let mut files: Vec<File> = ["tmp", "root", "etc", "home", "www", "bin"]
        .iter()
        .map(|p| File::Folder { path: (*p).to_string(), mode: if *p == "tmp" { 0o1777 } else { 0o755 } })
        .collect();
    files.push(File::program("bin/busybox", program));
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|a| *a != "busybox" && !a.is_empty()) {
        files.push(File::Link { path: format!("bin/{applet}"), target: "busybox".to_string() });
    }
    for (path, data) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
        ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
    ] {
        files.push(File::Text { path: path.to_string(), data: data.to_string() });
    }
    layer(&files)
}

/// A layer that holds `files`.
pub(crate) fn layer(files: &[File]) -> Result<Rc<[u8]>> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        let (path, mode, data): (&str, u32, &[u8]) = match file {
            File::Program { path, data, mode } => (path, *mode, data),
            File::Text { path, data } => (path, 0o644, data.as_bytes()),
            File::Folder { path, mode } => {
                header.set_entry_type(tar::EntryType::Directory);
                (path, *mode, &[])
            }
            File::Link { path, target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(target)?;
                (path, 0o777, &[])
            }
        };
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, path, data)?;
    }
    Ok(tar.into_inner()?.into())
}

fn pack(out: &Path, images: &[Image]) -> Result<()> {
    let mut tar =
        tar::Builder::new(fs::File::create(out).with_context(|| format!("creating {}", out.display()))?);
    let (mut manifest, mut written) = (Vec::new(), HashSet::new());
    let mut add = |name: &str, data: &[u8]| {
        if written.insert(name.to_string()) { append(&mut tar, name, data) } else { Ok(()) }
    };
    for image in images {
        let digests: Vec<String> = image.layers.iter().map(|l| hex(l)).collect();
        let config = config(image)?;
        let names: Vec<String> = digests.iter().map(|d| format!("{d}.tar")).collect();
        for (name, data) in names.iter().zip(&image.layers) {
            add(name, data)?;
        }
        let config_name = format!("{}.json", hex(&config));
        add(&config_name, &config)?;
        manifest.push(json!({"Config": config_name, "RepoTags": image.names, "Layers": names}));
    }
    append(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?)?;
    tar.finish().context("closing the image archive")
}

fn config(image: &Image) -> Result<Vec<u8>> {
    let digests: Vec<String> = image.layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    Ok(serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": image.config,
        "history": digests.iter().map(|_| json!({"created_by": "corten"})).collect::<Vec<_>>(),
        "rootfs": {"type": "layers", "diff_ids": digests},
    }))?)
}

/// An image as upstream's `fake-registry-server` serves it from a folder, under a name and a tag.
pub(crate) fn served(image: &Image, folder: &str, name: &str, tag: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut add = |kind: &str, data: &[u8]| {
        let digest = hex(data);
        let path =
            format!("{folder}/{name}/{kind}/sha256/{}/{digest}/data", digest.get(..2).unwrap_or_default());
        files.push(File::Program { path, data: data.to_vec(), mode: 0o644 });
        format!("sha256:{digest}")
    };
    let config = config(image)?;
    let mut layers = Vec::new();
    for layer in &image.layers {
        layers.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": layer.len(),
            "digest": add("blobs", layer)}));
    }
    let media = "application/vnd.oci.image.manifest.v1+json";
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
        "digest": add("blobs", &config)});
    let manifest = json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": layers});
    let data = add("manifests", &serde_json::to_vec(&manifest)?);
    files.push(File::Text { path: format!("{folder}/{name}/manifests/{tag}"), data });
    Ok(files)
}

fn append<W: std::io::Write>(tar: &mut tar::Builder<W>, name: &str, data: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    Ok(tar.append_data(&mut header, name, data)?)
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect()
}
