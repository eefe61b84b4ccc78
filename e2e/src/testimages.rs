//! The images that upstream's conformance suite runs, under upstream's names, from programs built from its modules.
//!
//! Upstream builds them from test/images and publishes them; without a registry they are made anew: the same programs, on a
//! small Debian instead of upstream's bases. [`table`] lists them.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::image::{self, File, Image, PATH};

/// Tells the time to the millisecond, as `nmeter '%3t'` of upstream's busybox, which Debian's has not: specs about the order
/// of containers write it into their logs.
const NMETER_SOURCE: &str = r#"#include <stdio.h>
#include <time.h>
int main(void) {
  struct timespec now; struct tm parts; char text[16];
  clock_gettime(CLOCK_REALTIME, &now); localtime_r(&now.tv_sec, &parts);
  strftime(text, sizeof text, "%H:%M:%S", &parts);
  return printf("%s.%03ld\n", text, now.tv_nsec / 1000000) < 0;
}
"#;

/// The parts that images are made of, all in one folder.
struct Parts<'a> {
    folder: &'a Path,
    base: Rc<[u8]>,
    agnhost: Rc<[u8]>,
    nmeter: Rc<[u8]>,
}

/// Writes the images to `archive`, unless it is there already.
///
/// # Errors
/// When the folder lacks a part, or the archive cannot be written.
pub fn build(folder: &Path, archive: &Path) -> Result<()> {
    if archive.exists() {
        return Ok(());
    }
    let base = read(folder, "base.tar")?.into();
    let nmeter = image::compile("nmeter", NMETER_SOURCE, folder)?;
    let nmeter = image::layer(&[File::program("usr/bin/nmeter", nmeter)])?;
    let mut parts = Parts { folder, base, agnhost: Rc::default(), nmeter };
    parts.agnhost = agnhost(&parts)?;
    image::write(archive, &apart(table(&parts)?))
}

/// An image for each name: of one with two names a runtime tells either, and specs ask for the one they named.
fn apart(images: Vec<Image>) -> Vec<Image> {
    let one = |image: Image| {
        let Image { names, config, layers } = image;
        let named = move |name: String| {
            let mut config = config.clone();
            config["Labels"] = json!({"name": name});
            Image { names: vec![name], config, layers: layers.clone() }
        };
        names.into_iter().map(named)
    };
    images.into_iter().flat_map(one).collect()
}

/// Under the name, too, that the node suite's specs about memory ask for.
fn busybox() -> Result<Image> {
    let mut image = image::busybox_image(&test_image("busybox:1.37.0-2"))?;
    image.names.push(test_image("busybox:1.36.1-1"));
    Ok(image)
}

fn table(parts: &Parts<'_>) -> Result<Vec<Image>> {
    let base = || parts.base.clone();
    let agnhost = |command: &str| json!({"Entrypoint": ["/agnhost"], "Cmd": [command], "Env": PATH});
    let runs = |program: &str| json!({"Entrypoint": [program], "Env": PATH});
    let shell = json!({"Cmd": ["bash"], "Env": PATH});
    let only = |path: &str| parts.layer(&[path]);
    let mut images = vec![
        image::pause_image(&["registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10"], parts.folder)?,
        with(busybox()?, &parts.nmeter),
        with(
            tests(&["agnhost:2.66.1", "agnhost:2.55"], agnhost("pause"), vec![base(), parts.agnhost.clone()]),
            &parts.nmeter,
        ),
        tests(
            &["nonroot:1.5"],
            json!({"User": "1234", "Entrypoint": ["/agnhost"], "Cmd": ["pause"], "Env": PATH}),
            vec![base(), parts.agnhost.clone()],
        ),
        tests(
            &["nginx:1.27.0-2", "nginx:1.28.0-2"],
            json!({"Entrypoint": ["/usr/sbin/nginx", "-g", "daemon off;"], "Env": PATH}),
            vec![base(), nginx()?],
        ),
        tests(&["sample-apiserver:1.29.2"], runs("/sample-apiserver"), vec![only("sample-apiserver")?]),
        tests(
            &["sample-device-plugin:1.8.0"],
            json!({"Entrypoint": ["/sampledeviceplugin", "-alsologtostderr"], "Env": PATH}),
            vec![only("sampledeviceplugin")?],
        ),
        tests(&["nonewprivs:1.4"], json!({"Cmd": ["nnp"], "Env": PATH}), vec![base(), setuid(parts)?]),
        tests(&["glibc-dns-testing:2.1.1"], shell.clone(), vec![base(), only("coredns")?]),
        tests(
            &["resource-consumer:1.14"],
            runs("/consumer"),
            vec![base(), parts.layer(&["consumer", "consume-cpu"])?],
        ),
        tests(&["ipc-utils:1.4", "perl:5.26"], shell, vec![base()]),
        named(
            "registry.k8s.io/etcd:3.7.0-0",
            json!({"Env": PATH}),
            parts.layer(&["usr/local/bin/etcd", "usr/local/bin/etcdctl"])?,
        ),
        named("registry.k8s.io/coredns/coredns:v1.15.0", runs("/coredns"), only("coredns")?),
    ];
    for name in ["kitten", "nautilus"] {
        let layers = vec![base(), parts.agnhost.clone(), animal(parts, name)?];
        images.push(tests(&[&format!("{name}:1.8")], agnhost("test-webserver"), layers));
    }
    Ok(images)
}

fn test_image(name: &str) -> String {
    format!("registry.k8s.io/e2e-test-images/{name}")
}

fn tests(names: &[&str], config: Value, layers: Vec<Rc<[u8]>>) -> Image {
    Image { names: names.iter().map(|n| test_image(n)).collect(), config, layers }
}

/// The image with one more layer.
fn with(mut image: Image, layer: &Rc<[u8]>) -> Image {
    image.layers.push(layer.clone());
    image
}

fn named(name: &str, config: Value, layer: Rc<[u8]>) -> Image {
    Image { names: vec![name.to_string()], config, layers: vec![layer] }
}

impl Parts<'_> {
    /// A layer with programs of the folder, at the given paths, and a /tmp.
    fn layer(&self, paths: &[&str]) -> Result<Rc<[u8]>> {
        let mut files = vec![File::Folder { path: "tmp".to_string(), mode: 0o1777 }];
        for path in paths {
            let name = path.rsplit('/').next().unwrap_or(path);
            files.push(File::program(path, read(self.folder, name)?));
        }
        image::layer(&files)
    }
}

/// The program that most specs run, with users that specs name.
fn agnhost(parts: &Parts<'_>) -> Result<Rc<[u8]>> {
    let text = |path: &str| -> Result<String> {
        Ok(String::from_utf8_lossy(&read(parts.folder, &format!("files/{path}"))?).into_owned())
    };
    let link = |path: &str, target: &str| File::Link { path: path.to_string(), target: target.to_string() };
    let file = |path: &str, data: String| File::Text { path: path.to_string(), data };
    let users = text("passwd")? + "user-defined-in-image:x:1000:1000::/home/u:/bin/sh\n";
    let groups = text("group")?
        + "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n";
    // Its private registry has one image.
    let pause = image::pause_image(&["pause"], parts.folder)?;
    let mut files = image::served(&pause, "var/registry", "pause", "testing")?;
    files.extend([
        File::Folder { path: "uploads".to_string(), mode: 0o755 },
        File::program("agnhost", read(parts.folder, "agnhost")?),
        link("agnhost-2", "agnhost"),
        File::program("coredns", read(parts.folder, "coredns")?),
        file("localhost.crt", text("localhost.crt")?),
        file("localhost.key", text("localhost.key")?),
        file("etc/passwd", users),
        file("etc/group", groups),
        link("usr/local/bin/iperf", "/usr/bin/iperf"),
    ]);
    image::layer(&files)
}

fn nginx() -> Result<Rc<[u8]>> {
    let site = "server { listen 80 default_server; listen [::]:80 default_server; root /var/www/html; }\n";
    let files = [
        ("var/www/html/index.html", "<h1>Welcome to nginx!</h1>\n"),
        ("etc/nginx/sites-enabled/default", site),
    ];
    image::layer(&files.map(|(path, data)| File::Text { path: path.to_string(), data: data.to_string() }))
}

/// The program that tells whether a setuid bit gains it privileges.
fn setuid(parts: &Parts<'_>) -> Result<Rc<[u8]>> {
    let data = read(parts.folder, "nnp")?;
    image::layer(&[File::Program { path: "usr/local/bin/nnp".to_string(), data, mode: 0o4755 }])
}

fn animal(parts: &Parts<'_>, name: &str) -> Result<Rc<[u8]>> {
    let file = |file: String, path: String| -> Result<File> {
        Ok(File::Program { path, data: read(parts.folder, &format!("files/{file}"))?, mode: 0o644 })
    };
    let picture = format!("{name}.jpg");
    image::layer(&[file(picture.clone(), picture)?, file(format!("{name}.json"), "data.json".to_string())?])
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    fs::read(&path).with_context(|| {
        format!(
            "reading {} (hack/upstream.sh builds the programs, hack/testbase.sh the rest)",
            path.display()
        )
    })
}
