//! Creating and starting one container. Upstream: kuberuntime_container.go startContainer, v1.37.

use std::collections::HashMap;
use std::path::Path;

use cri::v1;
use k8s_openapi::api::core::v1::Container;

use super::actions::KillReason;
use super::manager::{PodSync, Start};
use super::model::ContainerId;
use crate::container::config::{self, container_config};
use crate::container::env;
use crate::container::security::{Defaults, ImageUser};
use crate::container::service_env::service_env;
use crate::hooks;
use crate::image::manager::Request;
use crate::logs;
use crate::metrics::pods;
use crate::network::hostname;
use crate::paths::make_dir;
use crate::pod::view::PodView;
use crate::status::generate::StartFailure;
use crate::volume::mounts::{self, container_mounts};

/// What a runtime says when an image cannot be mounted. Upstream: ErrImageVolumeMountFailed in k8s.io/cri-api/pkg/errors.
const IMAGE_VOLUME: &str = "ImageVolumeMountFailed";

const CONFIG_ERROR: &str = "CreateContainerConfigError";

fn failure(reason: &str, message: impl Into<String>) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message: message.into() }
}

impl PodSync<'_> {
    /// Pulls the image if needed, creates the container and starts it.
    pub(super) async fn start_container(&self, start: Start<'_>) -> Result<(), StartFailure> {
        let name = start.container.name.clone();
        let warn = |reason: &str, failure: StartFailure| {
            let message = format!("Error: {}", failure.message);
            self.runtime.events.container_warning(self.pod, &name, reason, &message);
            failure
        };
        let image = self.image(&start, start.container.image.as_deref().unwrap_or_default(), &name).await?;
        let restart_count = self.restart_count(&start.container, &start.sandbox.log_directory);
        let config = self
            .config(&start, &image, restart_count)
            .await
            .map_err(|message| warn("Failed", failure(CONFIG_ERROR, message)))?;
        // What it is given is known even if this kubelet does not see it start.
        let noted = self.runtime.gave(self.pod, &start.container);
        noted.map_err(|message| warn("Failed", failure(CONFIG_ERROR, message)))?;
        let log_path = format!("{}/{}", start.sandbox.log_directory, config.log_path);
        let images = config.mounts.iter().filter(|mount| mount.image.is_some()).count();
        let created = self
            .runtime
            .cri
            .create_container(v1::CreateContainerRequest {
                pod_sandbox_id: start.sandbox_id.to_owned(),
                config: Some(config),
                sandbox_config: Some(start.sandbox.clone()),
            })
            .await;
        let failed = created.as_ref().err().is_some_and(|e| e.message().contains(IMAGE_VOLUME));
        pods::images_mounted(images, failed);
        let created = created.map_err(|e| warn("Failed", failure("CreateContainerError", e.message())))?;
        self.runtime.events.container_normal(self.pod, &name, "Created", "Container created");
        let id = created.container_id;
        if let Some(memory) = &self.runtime.node.limits.memory {
            memory.started(self.pod, &name);
        }
        self.runtime
            .cri
            .start_container(v1::StartContainerRequest { container_id: id.clone() })
            .await
            .map_err(|e| warn("Failed", failure("RunContainerError", e.message())))?;
        self.runtime.events.container_normal(self.pod, &name, "Started", "Container started");
        self.link_log(&name, &id, &log_path);
        self.post_start(&start.container, id, start.pod_ips).await
    }

    async fn image(&self, start: &Start<'_>, image: &str, container: &str) -> Result<String, StartFailure> {
        let handler =
            self.runtime.handler(self.pod).map_err(|message| failure("RunContainerError", message))?;
        let policy = start.container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let request = Request {
            pod: self.pod,
            container,
            image,
            policy,
            secrets: self.secrets,
            sandbox: start.sandbox,
            handler: &handler,
        };
        let ensured = self.runtime.images.ensure(&request).await;
        let present = ensured.inspect_err(|failure| {
            let message = format!("Error: {}", failure.reason);
            self.runtime.events.container_warning(self.pod, container, "Failed", &message);
        })?;
        Ok(present.id)
    }

    /// One more than the last one's; after a reboot the runtime may have forgotten it, but the logs have not.
    fn restart_count(&self, container: &Container, log_directory: &str) -> u32 {
        if let Some(last) = self.status.find(&container.name) {
            return last.restart_count.saturating_add(1);
        }
        let entries = std::fs::read_dir(Path::new(log_directory).join(&container.name));
        let number = |name: String| name.split('.').next().and_then(|n| n.parse::<u32>().ok());
        let last = (entries.into_iter().flatten().flatten())
            .filter_map(|entry| number(entry.file_name().to_string_lossy().into_owned()))
            .max();
        last.map_or(0, |n| n.saturating_add(1))
    }

    async fn config(
        &self,
        start: &Start<'_>,
        image: &str,
        restart_count: u32,
    ) -> Result<v1::ContainerConfig, String> {
        let (runtime, pod, container) = (self.runtime, self.pod, &start.container);
        let claimed = runtime.dra.devices(pod, container)?;
        let mut devices = runtime.devices.settings(pod, container).await?;
        devices.cdi_devices.splice(..0, claimed);
        let env = self.environment(container, start.pod_ips).await?;
        let user = self.image_user(container).await?;
        let target = match &start.target {
            None => None,
            Some(name) => {
                let found = self
                    .status
                    .find(name)
                    .ok_or_else(|| format!("unable to find target container {name}"))?;
                Some(found.id.id.clone())
            }
        };
        let (host, domain) = hostname::hostname_and_domain(pod, &runtime.node.dns.cluster_domain)
            .map_err(|e| e.to_string())?;
        let mut mounts = devices.mounts.clone();
        mounts.extend(self.mounts(start, &env, (host, domain)).await?);
        let logs = format!("{}/{}", start.sandbox.log_directory, container.name);
        make_dir(Path::new(&logs), 0o755).map_err(|e| {
            format!("create container log directory for container {} failed: {e}", container.name)
        })?;
        let defaults = Defaults {
            seccomp_root: &runtime.node.seccomp_root,
            seccomp_default: runtime.node.seccomp_default,
        };
        container_config(config::Inputs {
            pod,
            container,
            restart_count,
            image_ref: image,
            image_handler: "",
            user: &user,
            env: &env,
            mounts,
            devices,
            target: target.as_deref(),
            userns: Some(runtime.user_namespace(pod)?),
            node: &runtime.node.limits,
            defaults: &defaults,
        })
        .map_err(|e| e.to_string())
    }

    async fn mounts(
        &self,
        start: &Start<'_>,
        env: &std::collections::BTreeMap<String, String>,
        hostname: (String, String),
    ) -> Result<Vec<v1::Mount>, String> {
        let mut volumes = self.volumes.clone();
        for (name, volume) in &mut volumes {
            let used = start.container.volume_mounts.iter().flatten().any(|m| m.name == *name);
            if let Some(image) = volume.image.as_mut().filter(|_| used) {
                *image =
                    self.image(start, &image.clone(), &start.container.name).await.map_err(|e| e.message)?;
            }
        }
        let (pod, container) = (self.pod.clone(), start.container.clone());
        let (env, ips, paths) = (env.clone(), start.pod_ips.to_vec(), self.runtime.paths.clone());
        let recursive_read_only = self.runtime.recursive_read_only(&pod);
        let made = tokio::task::spawn_blocking(move || {
            container_mounts(&mounts::Inputs {
                pod: &pod,
                container: &container,
                volumes: &volumes,
                env: &env,
                pod_ips: &ips,
                hostname: (&hostname.0, &hostname.1),
                paths: &paths,
                recursive_read_only,
            })
        });
        made.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    async fn environment(
        &self,
        container: &Container,
        pod_ips: &[String],
    ) -> Result<std::collections::BTreeMap<String, String>, String> {
        let (runtime, pod) = (self.runtime, self.pod);
        let references = env::references(container);
        let mut config_maps = HashMap::new();
        for name in references.config_maps {
            let map = runtime.volumes.config_map(pod, &name).await;
            config_maps.insert(name, map);
        }
        let mut secrets = HashMap::new();
        for name in references.secrets {
            let secret = runtime.volumes.secret(pod, &name).await;
            secrets.insert(name, secret);
        }
        let services = match &runtime.services {
            None => Default::default(),
            Some(store) if !store.has_synced() && !pod.is_static() => {
                return Err(
                    "services have not yet been read at least once, cannot construct envvars".to_owned()
                );
            }
            Some(store) => {
                let links = pod.spec().enable_service_links.unwrap_or(true);
                let list = store.list();
                service_env(list.iter().map(AsRef::as_ref), pod.namespace(), links)
            }
        };
        let volumes = self.volumes.iter().map(|(name, volume)| (name.clone(), volume.path.clone())).collect();
        env::environment(
            container,
            &env::Inputs {
                pod,
                addresses: &runtime.node.addresses(pod_ips),
                node: &runtime.node.allocatable,
                services: &services,
                config_maps: &config_maps,
                secrets: &secrets,
                volumes: &volumes,
            },
        )
        .map_err(|e| e.to_string())
    }

    /// The user that the image names; nothing means root.
    async fn image_user(&self, container: &Container) -> Result<ImageUser, String> {
        let image = container.image.clone().unwrap_or_default();
        let spec = v1::ImageSpec { image, ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(spec), verbose: false };
        let status = self.runtime.cri.image_status(request).await.map_err(|e| e.to_string())?;
        let root = ImageUser { uid: Some(0), name: String::new() };
        Ok(match status.image {
            Some(v1::Image { uid: Some(uid), .. }) => ImageUser { uid: Some(uid.value), name: String::new() },
            Some(image) if !image.username.is_empty() => ImageUser { uid: None, name: image.username },
            _ => root,
        })
    }

    /// Log collectors look for logs in one flat folder.
    fn link_log(&self, container: &str, id: &str, log: &str) {
        if !Path::new(log).exists() {
            return;
        }
        let name = logs::link_name(self.pod.name(), self.pod.namespace(), container, id);
        let link = Path::new(logs::CONTAINER_LOGS_ROOT).join(name);
        let made = make_dir(Path::new(logs::CONTAINER_LOGS_ROOT), 0o755)
            .and_then(|()| std::os::unix::fs::symlink(log, &link));
        if let Err(error) = made {
            tracing::error!(path = %link.display(), %error, "Failed to create legacy symbolic link");
        }
    }

    async fn post_start(
        &self,
        container: &Container,
        id: String,
        pod_ips: &[String],
    ) -> Result<(), StartFailure> {
        let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let ip = pod_ips.first().map(String::as_str).unwrap_or_default();
        let (cri, events) = (&self.runtime.cri, &self.runtime.events);
        let Err(message) = hooks::run(cri, &id, self.pod, container, handler, ip, events).await else {
            return Ok(());
        };
        // The message may contain secrets of the container, so the event does not.
        self.runtime.events.container_warning(
            self.pod,
            &container.name,
            "FailedPostStartHook",
            "PostStartHook failed",
        );
        let id = ContainerId { runtime: self.runtime.name.clone(), id };
        let reason = KillReason::FailedPostStartHook;
        let killed = self
            .runtime
            .kill_container(Some(self.pod), &id, &container.name, "FailedPostStartHook", reason, None, None)
            .await;
        if let Err(error) = killed {
            tracing::error!(
                pod = self.pod.log_name(),
                container = container.name,
                error,
                "Failed to kill container"
            );
        }
        Err(failure("PostStartHookError", message))
    }
}
