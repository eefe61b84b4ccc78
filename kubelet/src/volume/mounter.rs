//! `--experimental-mounter-path`: a program that mounts network file systems in the place of the node's own `mount`, with
//! what it needs in a root file system beside it.
//!
//! Upstream: MountSensitive in k8s.io/mount-utils/mount_linux.go v0.37, SetupDNSinContainerizedMounter in
//! pkg/kubelet/network/dns/dns.go v1.37.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cri::v1::DnsConfig;

use crate::network::dns;

/// File systems that it is asked for.
const KINDS: [&str; 4] = ["nfs", "glusterfs", "ceph", "cifs"];

/// The program that mounts, and what it is told first.
pub fn command<'a>(mounter: Option<&'a Path>, kind: &str) -> (&'a Path, Option<&'static str>) {
    match mounter.filter(|_| KINDS.contains(&kind)) {
        Some(mounter) => (mounter, Some("mount")),
        None => (Path::new("mount"), None),
    }
}

/// The resolver configuration of its root file system.
fn resolv_conf(mounter: &Path) -> PathBuf {
    let own = mounter.file_name().is_some_and(|name| name == "mounter");
    let folder = mounter.parent().filter(|_| own).unwrap_or(mounter);
    folder.join("rootfs/etc/resolv.conf")
}

/// The cluster's name servers, so that it finds services, and where the node looks for names; addresses that are none are
/// left out.
fn resolver(cluster_dns: &[String], host: Option<&DnsConfig>) -> String {
    let servers = cluster_dns.iter().filter_map(|ip| net::parse_ip(ip));
    let mut text: String = servers.map(|ip| format!("nameserver {ip}\n")).collect();
    if let Some(host) = host {
        let searches: String = host.searches.iter().map(|domain| format!(" {domain}")).collect();
        text.push_str(&format!("search{searches}\n"));
    }
    text
}

/// Writes the resolver configuration. A failure is only logged: names may be found all the same. `node_file` is the node's
/// own configuration, if there is one.
pub fn set_up(mounter: &Path, cluster_dns: &[String], node_file: &str) {
    let host = match node_file {
        "" => None,
        file => fs::read_to_string(file)
            .inspect_err(|error| tracing::error!(file, %error, "Could not open resolverConf file"))
            .ok(),
    };
    let host = host.map(|text| dns::parse_resolv_conf(&text));
    let path = resolv_conf(mounter);
    if let Err(error) = write(&path, &resolver(cluster_dns, host.as_ref())) {
        let path = path.display().to_string();
        tracing::error!(path, %error, "Could not write dns nameserver in the file");
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_for_network_file_systems() {
        let mounter = Path::new("/home/kubernetes/containerized_mounter/mounter");
        assert_eq!(command(Some(mounter), "nfs"), (mounter, Some("mount")));
        for (mounter, kind) in [(Some(mounter), ""), (Some(mounter), "ext4"), (None, "nfs")] {
            assert_eq!(command(mounter, kind), (Path::new("mount"), None));
        }
    }

    #[test]
    fn names_are_found_in_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let (mounter, own) = (dir.path().join("mounter"), dir.path().join("node.conf"));
        let servers = ["10.96.0.10", "x", "fd00::0a"].map(str::to_owned);
        fs::write(&own, "nameserver 9.9.9.9\nsearch corp example.com.\n").unwrap();
        fs::create_dir_all(dir.path().join("rootfs/etc")).unwrap();
        let path = dir.path().join("rootfs/etc/resolv.conf");
        assert_eq!((resolv_conf(&mounter), resolv_conf(dir.path())), (path.clone(), path.clone()));
        let after = |file: &str| {
            set_up(&mounter, &servers, file);
            fs::read_to_string(&path).unwrap()
        };
        let of_cluster = "nameserver 10.96.0.10\nnameserver fd00::a\n";
        assert_eq!(after(own.to_str().unwrap()), format!("{of_cluster}search corp example.com\n"));
        for none in ["", "/nonexistent/resolv.conf"] {
            assert_eq!(after(none), of_cluster);
        }
        // What cannot be written is no error.
        set_up(&dir.path().join("nothing/here"), &servers, "");
    }
}
