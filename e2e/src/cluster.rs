//! Brings a cluster up and down: store, control plane, runtime, node daemons; [`worker`](crate::worker) adds nodes.
//!
//! Every step is idempotent: what runs is left running, what exists is kept. Start reading at [`Cluster::up`].

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::cgroup;
use crate::host;
use crate::image;
use crate::kubectl::Kubectl;
use crate::pki::Pki;
use crate::process::Processes;
use crate::registry;
use crate::rules;
use crate::spec::{self, Spec, Store};

/// A cluster on this machine.
pub struct Cluster {
    pub spec: Spec,
    pub processes: Processes,
    pub pki: Pki,
}

impl Cluster {
    /// Prepares folders, network namespace and certificates; starts nothing.
    pub fn prepare(spec: Spec) -> Result<Self> {
        fs::create_dir_all(&spec.dir).with_context(|| format!("creating {}", spec.dir.display()))?;
        if let Some(name) = &spec.netns {
            host::create(name, spec.address)?;
            if spec.dual_stack {
                host::give_second_address(name, spec::node_ip_6(1))?;
            }
        }
        if let Some(root) = &spec.cgroup_root {
            cgroup::create(root)?;
        }
        let pki = Pki::create(
            &spec.dir.join("kubernetes"),
            &spec.node,
            spec.address,
            spec::SERVICE_IP,
            &spec.server,
        )?;
        let processes = Processes { dir: spec.dir.clone(), netns: spec.netns.clone() };
        Ok(Self { spec, processes, pki })
    }

    /// A kubectl that acts as `user`.
    pub fn kubectl(&self, user: &str) -> Kubectl<'_> {
        Kubectl {
            program: &self.spec.kubectl,
            kubeconfig: self.pki.kubeconfig_path(user),
            processes: &self.processes,
        }
    }

    /// What kubectl tells somebody who has but a token.
    pub fn with_token(&self, token: &str, arguments: &[&str]) -> Result<String> {
        let kubectl = Kubectl {
            program: &self.spec.kubectl,
            kubeconfig: "/dev/null".to_string(),
            processes: &self.processes,
        };
        let (server, token) = (format!("--server={}", self.spec.server), format!("--token={token}"));
        let options = [server.as_str(), token.as_str(), "--insecure-skip-tls-verify"];
        kubectl.run(&[arguments, &options].concat())
    }

    /// Starts everything and waits until the node is Ready.
    pub fn up(&self) -> Result<()> {
        self.step("images", || image::build(&self.spec.dir.join("images.tar")))?;
        if self.spec.store == Store::Etcd {
            self.step("etcd", || self.start_etcd())?;
        }
        self.step("kube-apiserver", || self.start_daemon("kube-apiserver").and_then(|()| self.wait_ready()))?;
        for (daemon, port) in [("kube-controller-manager", 10257), ("kube-scheduler", 10259)] {
            self.step(daemon, || self.start_daemon(daemon).and_then(|()| self.wait_healthy(daemon, port)))?;
        }
        if let Some(archive) = &self.spec.images {
            self.step("registry", || self.start_registry(archive))?;
        }
        self.step("containerd", || self.write_first_network().and_then(|()| self.start_containerd()))?;
        self.step("kube-proxy", || self.start_daemon("kube-proxy"))?;
        self.step("kubelet", || self.start_daemon("kubelet"))?;
        self.step("node ready", || self.wait_node(self))?;
        self.workers()?.iter().try_for_each(|worker| self.step(&worker.spec.node, || self.join(worker)))
    }

    /// Ends everything, nodes that joined later included; with `wipe` nothing is left.
    pub fn down(&self, wipe: bool) -> Result<()> {
        for worker in self.workers_found()? {
            worker.down_node(wipe)?;
        }
        self.down_node(wipe)
    }

    /// Ends what runs on one node, the daemons of the control plane included.
    pub(crate) fn down_node(&self, wipe: bool) -> Result<()> {
        let soft = Duration::from_secs(20);
        let ran = |daemon| self.processes.running(daemon).is_some();
        let (proxy_ran, kubelet_ran) = (ran("kube-proxy"), ran("kubelet"));
        for daemon in ["kubelet", "kube-scheduler", "kube-controller-manager"] {
            self.processes.stop(daemon, Signal::SIGTERM, soft)?;
        }
        if self.processes.running("containerd").is_some() {
            self.step("pods", || self.remove_pods())?;
        }
        for daemon in ["kube-proxy", "containerd", "registry", "kube-apiserver", "etcd"] {
            self.processes.stop(daemon, Signal::SIGTERM, soft)?;
        }
        if proxy_ran {
            self.run(&self.spec.binary("kube-proxy"), &["--cleanup"])
                .context("removing kube-proxy's rules")?;
        }
        if kubelet_ran {
            rules::remove(&self.processes)?;
        }
        self.unmount()?;
        if self.spec.netns.is_none() {
            // Gone already when no pod ever ran.
            let _ = self.run("ip", &["link", "del", BRIDGE]);
        }
        if wipe {
            self.wipe()?;
        }
        Ok(())
    }

    /// Starts one daemon again after it was ended.
    pub fn start_daemon(&self, daemon: &str) -> Result<()> {
        let mut argv = vec![self.spec.binary(daemon)];
        argv.extend(match daemon {
            "kube-apiserver" => self.apiserver_flags(),
            "kube-controller-manager" => self.controller_manager_flags(),
            "kube-scheduler" => self.kubeconfig_flags("scheduler"),
            "kubelet" => self.kubelet_flags()?,
            "kube-proxy" => self.proxy_flags(),
            other => bail!("{other} is not one of {:?}", spec::DAEMONS),
        });
        argv.extend(self.spec.flags.get(daemon).into_iter().flatten().cloned());
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.spec.bin.display());
        self.processes.start(daemon, &argv, &[("PATH", path)]).map(drop)
    }

    pub(crate) fn step(&self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        work().with_context(|| format!("step \"{name}\" of the cluster in {}", self.spec.dir.display()))?;
        println!("  {name:<24} {:>6.2} s", begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// A program beside the daemons, beside this one, or along PATH.
    pub(crate) fn tool(&self, name: &str) -> Result<String> {
        let here = std::env::current_exe()?;
        let here = here.parent().context("no folder of this program")?.display().to_string();
        let path =
            format!("{}:{here}:{}", self.spec.bin.display(), std::env::var("PATH").unwrap_or_default());
        let found = spec::find_program(name, &path).with_context(|| format!("there is no {name}"))?;
        Ok(found.display().to_string())
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .processes
            .command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("running {program}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), stderr.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn start_etcd(&self) -> Result<()> {
        let etcd = self.tool("etcd").context("etcd-server is missing (apt-get install etcd-server)")?;
        let mut argv = vec![etcd];
        argv.extend(self.etcd_flags());
        self.processes.start("etcd", &argv, &[]).map(drop)
    }

    pub(crate) fn wait_ready(&self) -> Result<()> {
        let kubectl = self.kubectl("admin");
        self.wait("kube-apiserver", Duration::from_secs(90), || {
            kubectl.run(&["get", "--raw", "/readyz"]).map(|text| text.contains("ok"))
        })
    }

    /// Waits for a daemon's own health page, so that one that ends at start is not found out minutes later.
    fn wait_healthy(&self, daemon: &str, port: u16) -> Result<()> {
        let (kubectl, server) = (self.kubectl("admin"), format!("--server=https://127.0.0.1:{port}"));
        self.wait(daemon, Duration::from_secs(60), || {
            kubectl
                .run(&["get", "--raw", "/healthz", &server, "--insecure-skip-tls-verify"])
                .map(|text| text.contains("ok"))
        })
    }

    /// Waits until `on`, this cluster or one of its workers, is Ready.
    pub(crate) fn wait_node(&self, on: &Self) -> Result<()> {
        let kubectl = self.kubectl("admin");
        let node = on.spec.node.as_str();
        on.wait("kubelet", Duration::from_secs(120), || {
            let path = "jsonpath={.status.conditions[-1:].type}={.status.conditions[-1:].status}";
            Ok(kubectl.run(&["get", "node", node, "-o", path])? == "Ready=True")
        })
    }

    /// Asks until `ready`, or until `daemon` ends or the limit passes.
    pub(crate) fn wait(&self, daemon: &str, limit: Duration, ready: impl Fn() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + limit * spec::patience();
        loop {
            let last = ready();
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            let tail = || self.processes.log_tail(daemon, 15);
            ensure!(self.processes.running(daemon).is_some(), "{daemon} ended. Its last lines:\n{}", tail());
            if Instant::now() > end {
                let last = last.map_or_else(|e| format!("{e:#}"), |_| "it answers no".to_string());
                bail!("{daemon} is not ready after {limit:?} ({last}). Its last lines:\n{}", tail());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn start_registry(&self, archive: &Path) -> Result<()> {
        let program = std::env::current_exe()?.display().to_string();
        let address = format!("{}:{}", self.spec.address, registry::PORT);
        let argv = [program, "registry".to_string(), archive.display().to_string(), address.clone()];
        self.processes.start("registry", &argv, &[])?;
        let address = address.parse().with_context(|| format!("{address} is no address with port"))?;
        self.wait("registry", Duration::from_secs(30), || {
            self.processes.inside(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()))
        })
    }

    pub(crate) fn start_containerd(&self) -> Result<()> {
        let program =
            spec::find_program("containerd", &format!("{}:/usr/bin:/usr/local/bin", self.spec.bin.display()))
                .context("there is no containerd on this machine (apt-get install containerd)")?;
        let program = program.display().to_string();
        let version =
            String::from_utf8_lossy(&Command::new(&program).arg("--version").output()?.stdout).into_owned();
        if self.spec.images.is_some() {
            let folder = self.spec.dir.join("certs.d/_default");
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("hosts.toml"), registry::mirror(&self.spec.registry_url()))?;
        }
        let config = self.spec.path("containerd.toml");
        fs::write(&config, self.containerd_config(&version))?;
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.spec.bin.display());
        self.processes.start("containerd", &[program, "-c".to_string(), config], &[("PATH", path)])?;
        self.wait("containerd", Duration::from_secs(30), || Ok(self.ctr(&["version"]).is_ok()))?;
        let images = self.ctr(&["images", "ls", "-q"])?;
        if !images.contains(image::PAUSE) || !images.contains(image::BUSYBOX) {
            self.ctr(&["images", "import", &self.spec.path("images.tar")])?;
        }
        Ok(())
    }

    /// Configures the network of the first node's pods.
    pub(crate) fn write_first_network(&self) -> Result<()> {
        let cidrs = self.spec.families(spec::NODE_POD_CIDR, spec::NODE_POD_CIDR_6);
        self.write_network(&cidrs.split(',').collect::<Vec<_>>())
    }

    /// Configures the pods' network: a bridge whose pods get an address of each of `pod_cidrs`.
    pub(crate) fn write_network(&self, pod_cidrs: &[&str]) -> Result<()> {
        let path = self.spec.dir.join("cni/10-corten.conflist");
        fs::create_dir_all(self.spec.dir.join("cni"))?;
        // Between nodes a pod keeps its address; only a machine's own pods go out to where nobody knows it.
        let masquerade = self.spec.netns.is_none();
        fs::write(&path, cni_config(pod_cidrs, masquerade, &self.spec.path("addresses")))
            .with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.spec.runtime_socket();
        self.run("ctr", &[&["-a", socket.as_str(), "-n", "k8s.io"], arguments].concat())
    }

    /// containerd 1.x reads version 2 of its configuration, 2.x version 3 with other section names.
    fn containerd_config(&self, version: &str) -> String {
        let head = format!(
            "root = \"{}\"\nstate = \"{}\"\n[grpc]\n  address = \"{}\"\n",
            self.spec.path("containerd"),
            self.spec.path("run/containerd"),
            self.spec.runtime_socket()
        );
        let (cni, hosts) = (self.spec.path("cni"), self.spec.path("certs.d"));
        let major = version
            .split_whitespace()
            .find_map(|w| w.trim_start_matches('v').split('.').next()?.parse::<u32>().ok());
        let new = major.unwrap_or(1) >= 2;
        let runtime = if new { "io.containerd.cri.v1.runtime" } else { "io.containerd.grpc.v1.cri" };
        let systemd = if self.processes.supervised() {
            format!(
                "[plugins.\"{runtime}\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\
                 [plugins.\"{runtime}\".containerd.runtimes.runc.options]\n  SystemdCgroup = true\n"
            )
        } else {
            String::new()
        };
        if new {
            format!(
                "version = 3\n{head}[plugins.\"io.containerd.cri.v1.images\".pinned_images]\n  sandbox = \"{pause}\"\n\
                 [plugins.\"{runtime}\"]\n  restrict_oom_score_adj = true\n\
                 [plugins.\"{runtime}\".cni]\n  bin_dirs = [\"/usr/lib/cni\"]\n  conf_dir = \"{cni}\"\n\
                 [plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"{hosts}\"\n{systemd}",
                pause = image::PAUSE
            )
        } else {
            format!(
                "version = 2\n{head}[plugins.\"{runtime}\"]\n  sandbox_image = \"{pause}\"\n  restrict_oom_score_adj = true\n\
                 [plugins.\"{runtime}\".cni]\n  bin_dir = \"/usr/lib/cni\"\n  conf_dir = \"{cni}\"\n\
                 [plugins.\"{runtime}\".registry]\n  config_path = \"{hosts}\"\n{systemd}",
                pause = image::PAUSE
            )
        }
    }

    /// Stops and removes every sandbox through the runtime, so that the network plugin frees its addresses and rules.
    fn remove_pods(&self) -> Result<()> {
        let endpoint = format!("unix://{}", self.spec.runtime_socket());
        let sandboxes = crate::runtime::sandboxes(&endpoint)?;
        crate::runtime::remove(&endpoint, &sandboxes)
    }

    /// Unmounts what lies below the cluster's folder, deepest first.
    fn unmount(&self) -> Result<()> {
        let prefix = format!("{}/", self.spec.dir.display());
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut targets: Vec<&str> =
            mounts.lines().filter_map(|l| l.split(' ').nth(4)).filter(|t| t.starts_with(&prefix)).collect();
        targets.sort_by_key(|t| std::cmp::Reverse(t.len()));
        for target in targets {
            nix::mount::umount2(Path::new(target), nix::mount::MntFlags::MNT_DETACH)
                .with_context(|| format!("unmounting {target}"))?;
        }
        Ok(())
    }

    fn wipe(&self) -> Result<()> {
        // The slice of pods belongs to systemd where it runs; it ends with the last of them.
        if !self.processes.supervised() {
            cgroup::remove(self.spec.cgroup_root.as_deref().unwrap_or("/kubepods"))?;
        }
        fs::remove_dir_all(&self.spec.dir)
            .with_context(|| format!("removing {}", self.spec.dir.display()))?;
        if let Some(name) = &self.spec.netns {
            host::remove(name);
        }
        Ok(())
    }
}

/// The bridge that connects the node's pods.
const BRIDGE: &str = "corten0";

/// `addresses`: the folder in which given-out addresses are noted.
fn cni_config(subnets: &[&str], masquerade: bool, addresses: &str) -> String {
    let ranges: Vec<_> = subnets.iter().map(|subnet| serde_json::json!([{"subnet": subnet}])).collect();
    let everywhere = |subnet: &&str| if subnet.contains(':') { "::/0" } else { "0.0.0.0/0" };
    let routes: Vec<_> =
        subnets.iter().map(|subnet| serde_json::json!({"dst": everywhere(subnet)})).collect();
    serde_json::json!({"cniVersion": "1.0.0", "name": "corten", "plugins": [
        {"type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": masquerade, "hairpinMode": true,
         "ipam": {"type": "host-local", "dataDir": addresses, "ranges": ranges, "routes": routes}},
        {"type": "portmap", "capabilities": {"portMappings": true}}
    ]})
    .to_string()
}
