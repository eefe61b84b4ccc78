//! The command lines of the five daemons: upstream's flags, so that either side's binaries take them.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::spec::{self, Store};

/// The client URL of an etcd beside the only API server.
const LOCAL_ETCD: &str = "http://127.0.0.1:2379";

impl Cluster {
    pub(crate) fn apiserver_flags(&self) -> Vec<String> {
        let pki = |f: &str| self.pki.path(f);
        let mut flags = vec![
            format!("--advertise-address={}", self.spec.address),
            format!("--secure-port={}", spec::API_PORT),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--service-account-key-file={}", pki("sa.pub")),
            format!("--service-account-signing-key-file={}", pki("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_string(),
            "--authorization-mode=Node,RBAC".to_string(),
            "--enable-admission-plugins=NodeRestriction".to_string(),
            format!(
                "--service-cluster-ip-range={}",
                self.spec.families(spec::SERVICE_CIDR, spec::SERVICE_CIDR_6)
            ),
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP,Hostname".to_string(),
            format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_string(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_string(),
            "--requestheader-group-headers=X-Remote-Group".to_string(),
            "--requestheader-username-headers=X-Remote-User".to_string(),
            format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
            "--enable-aggregator-routing=true".to_string(),
            "--allow-privileged=true".to_string(),
            "--enable-bootstrap-token-auth=true".to_string(),
        ];
        match self.spec.store {
            Store::Etcd if self.spec.control_plane.is_empty() => {
                flags.push(format!("--etcd-servers={LOCAL_ETCD}"));
            }
            Store::Etcd => flags.extend([
                format!("--etcd-servers={}", self.members("", spec::ETCD_PORT)),
                format!("--etcd-cafile={}", pki("etcd/ca.crt")),
                format!("--etcd-certfile={}", pki("apiserver-etcd-client.crt")),
                format!("--etcd-keyfile={}", pki("apiserver-etcd-client.key")),
            ]),
            Store::Embedded => flags.push(format!("--data-dir={}", self.spec.path("store"))),
        }
        flags
    }

    /// etcd's: alone on the loopback address, or with certificates among the hosts of the control plane.
    pub(crate) fn etcd_flags(&self) -> Vec<String> {
        let flag = |(name, value): (&str, String)| format!("--{name}={value}");
        let data = ("data-dir", self.spec.path("etcd"));
        if self.spec.control_plane.is_empty() {
            let peer = "http://127.0.0.1:2380";
            let flags = [
                data,
                ("listen-client-urls", LOCAL_ETCD.to_string()),
                ("advertise-client-urls", LOCAL_ETCD.to_string()),
                ("listen-peer-urls", peer.to_string()),
                ("initial-advertise-peer-urls", peer.to_string()),
                ("initial-cluster", format!("default={peer}")),
            ];
            return flags.map(flag).into();
        }
        let (pki, address) = (|f: &str| self.pki.path(f), self.spec.address);
        let client = format!("https://{address}:{}", spec::ETCD_PORT);
        let peer = format!("https://{address}:{}", spec::ETCD_PEER_PORT);
        let flags = [
            data,
            ("name", format!("etcd-{address}")),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer),
            ("initial-cluster", self.members("etcd-", spec::ETCD_PEER_PORT)),
            ("client-cert-auth", "true".to_string()),
            ("trusted-ca-file", pki("etcd/ca.crt")),
            ("cert-file", pki("etcd/server.crt")),
            ("key-file", pki("etcd/server.key")),
            ("peer-client-cert-auth", "true".to_string()),
            ("peer-trusted-ca-file", pki("etcd/ca.crt")),
            ("peer-cert-file", pki("etcd/peer.crt")),
            ("peer-key-file", pki("etcd/peer.key")),
        ];
        flags.map(flag).into()
    }

    /// URLs of all etcd members, comma separated; with a prefix each is preceded by the member's name.
    fn members(&self, prefix: &str, port: u16) -> String {
        let url = |a: &IpAddr| format!("https://{a}:{port}");
        let named = |a: &IpAddr| if prefix.is_empty() { url(a) } else { format!("{prefix}{a}={}", url(a)) };
        self.spec.control_plane.iter().map(named).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn controller_manager_flags(&self) -> Vec<String> {
        let pki = |f: &str| self.pki.path(f);
        let mut flags = self.kubeconfig_flags("controller-manager");
        flags.extend([
            format!("--service-account-private-key-file={}", pki("sa.key")),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--cluster-signing-cert-file={}", pki("ca.crt")),
            format!("--cluster-signing-key-file={}", pki("ca.key")),
            "--use-service-account-credentials=true".to_string(),
            // The two that are off by default let nodes join by a token, as with kubeadm.
            "--controllers=*,bootstrap-signer-controller,token-cleaner-controller".to_string(),
            "--allocate-node-cidrs=true".to_string(),
            format!("--cluster-cidr={}", self.spec.families(spec::POD_CIDR, spec::POD_CIDR_6)),
        ]);
        flags
    }

    /// The flags that the scheduler and the controller manager share.
    pub(crate) fn kubeconfig_flags(&self, user: &str) -> Vec<String> {
        let path = self.pki.kubeconfig_path(user);
        vec![
            format!("--kubeconfig={path}"),
            format!("--authentication-kubeconfig={path}"),
            format!("--authorization-kubeconfig={path}"),
            format!("--leader-elect={}", !self.spec.control_plane.is_empty()),
        ]
    }

    pub(crate) fn proxy_flags(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.pki.kubeconfig_path("kube-proxy")),
            format!("--hostname-override={}", self.spec.node),
            format!("--cluster-cidr={}", self.spec.families(spec::POD_CIDR, spec::POD_CIDR_6)),
            format!("--proxy-mode={}", self.spec.proxy_mode),
            // The machine's own limit is left alone: it belongs to whoever set it.
            "--conntrack-max-per-core=0".to_string(),
        ]
    }

    pub(crate) fn kubelet_flags(&self) -> Result<Vec<String>> {
        let config = self.spec.path("kubelet.yaml");
        fs::write(&config, self.kubelet_config()?).with_context(|| format!("writing {config}"))?;
        let mut flags = vec![
            format!("--config={config}"),
            format!("--kubeconfig={}", self.pki.kubeconfig_path("kubelet")),
            format!("--hostname-override={}", self.spec.node),
            format!("--node-ip={}", self.spec.families(self.spec.address, spec::node_ip_6(self.number()))),
            format!("--root-dir={}", self.spec.path("kubelet")),
        ];
        if self.pki.bootstraps() {
            flags.extend([
                format!("--bootstrap-kubeconfig={}", self.pki.kubeconfig_path("bootstrap-kubelet")),
                format!("--cert-dir={}", self.spec.path("kubelet-pki")),
            ]);
        }
        Ok(flags)
    }

    fn kubelet_config(&self) -> Result<String> {
        let resolv = self.spec.path("resolv.conf");
        fs::write(&resolv, format!("nameserver {}\n", self.spec.address))?;
        let pki = |f: &str| self.pki.path(f);
        let mut config = serde_json::json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": false,
            "cgroupDriver": if self.processes.supervised() { "systemd" } else { "cgroupfs" },
            "cgroupRoot": self.spec.cgroup_root.clone().unwrap_or_default(),
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": pki("ca.crt")}},
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [spec::DNS_IP],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": format!("unix://{}", self.spec.runtime_socket()),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
            // The two images cannot be pulled again: no collection of images.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "failSwapOn": false,
            "resolvConf": resolv,
            "podLogsDir": self.spec.path("pod-logs"),
        });
        if self.spec.static_pods {
            config["staticPodPath"] = self.spec.path("manifests").into();
        }
        if self.pki.bootstraps() {
            config["rotateCertificates"] = true.into();
        } else {
            config["tlsCertFile"] = pki("kubelet.crt").into();
            config["tlsPrivateKeyFile"] = pki("kubelet.key").into();
        }
        Ok(serde_json::to_string_pretty(&config)?)
    }
}
