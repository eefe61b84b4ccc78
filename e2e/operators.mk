# What operators do beyond `make up`: each target is a scenario on a throw-away cluster that must end well.
.PHONY: join backup ha
join: build      ## a second node joins by a bootstrap token, runs a pod; an expired token is refused
	@hack/deps.sh cluster
	KUBECTL=$$(hack/kubectl.sh | tail -1) $(BIN)/cluster smoke join

backup: build    ## either store backed up, everything changed, the store wiped and restored (etcd's tools need Go)
	@hack/deps.sh cluster
	hack/upstream.sh $(UPSTREAM) etcd etcdctl etcdutl
	KUBECTL=$$(hack/kubectl.sh | tail -1) STORE=embedded $(BIN)/cluster smoke backup
	KUBECTL=$$(hack/kubectl.sh | tail -1) STORE=etcd PATH=$(UPSTREAM):$$PATH $(BIN)/cluster smoke backup

ha: build        ## three API servers, etcd members, controller managers and schedulers, each killed in turn (etcd needs Go)
	@hack/deps.sh cluster
	hack/upstream.sh $(UPSTREAM) etcd etcdctl
	KUBECTL=$$(hack/kubectl.sh | tail -1) PATH=$(UPSTREAM):$$PATH $(BIN)/cluster smoke ha

.PHONY: images static-pods
IMAGES_OUT ?= target/control-plane.tar
images: build    ## a docker archive with an image per daemon of the control plane, in IMAGES_OUT
	$(BIN)/cluster images $(IMAGES_OUT)

static-pods: build ## the control plane as static pods of our kubelet: mirror pods, changed, removed, killed
	@hack/deps.sh cluster
	KUBECTL=$$(hack/kubectl.sh | tail -1) $(BIN)/cluster smoke static-pods

.PHONY: deb
DEBS ?= target/deb
deb: build       ## a Debian package per daemon in DEBS, checked: fields, units, installing, purging
	hack/release.sh -p storage --bin corten-store
	rm -rf $(DEBS)
	hack/deb/build.sh $(BIN) $(DEBS)
	hack/deb/check.sh $(DEBS)

.PHONY: vm
vm: deb          ## the seed flow from our packages in a machine with systemd and cgroup v2, ipvs mode included (root, QEMU)
	@hack/deps.sh vm
	KUBECTL=$$(hack/kubectl.sh | tail -1) BIN=$(BIN) DEBS=$(DEBS) e2e/vm.sh
