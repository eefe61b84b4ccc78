# Corten: one target per task. `make up` and `make test` need nothing done by hand before.
SHELL := /bin/bash
export CARGO_TERM_COLOR ?= never
STORE ?= embedded
BIN := $(or $(CARGO_TARGET_DIR),target)/release
CHECKED := $(or $(CARGO_TARGET_DIR),target)/debug
UPSTREAM ?= $(HOME)/.cache/corten/upstream
DAEMONS := kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy

.PHONY: help build profile up down test unit soak verify smoke swap upstream fmt rust update oracle bench bench-kubelet oracle-proxy bench-proxy requests

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 12

rust:
	@command -v cargo >/dev/null || { hack/rust.sh; }

build: rust      ## the five daemons and the cluster tool, release profile
	@hack/deps.sh build
	hack/release.sh --bins

profile: rust    ## records anew what the daemons execute, for the release build (root; hack/profile/README.md)
	@hack/deps.sh build
	@hack/deps.sh cluster
	@hack/deps.sh profile
	hack/profile/record.sh

up: build        ## a cluster on this machine, with a sample; STORE=etcd keeps objects in etcd
	@hack/deps.sh cluster
	KUBECTL=$$(hack/kubectl.sh | tail -1) STORE=$(STORE) $(BIN)/cluster up

down:            ## ends the cluster; WIPE=1 also removes its data
	KUBECTL=none $(BIN)/cluster down $(if $(WIPE),--wipe)

include e2e/apiserver/targets.mk

# The same cases on every run, so that a failure belongs to the change it is seen on; `make soak` looks for new ones.
SEED ?= 20261128
unit: rust       ## unit, golden and integration tests
	@hack/deps.sh build
	PROPTEST_RNG_SEED=$(SEED) cargo test --workspace --locked

soak: rust       ## the property tests on SOAK fresh seeds, which are printed: `make unit SEED=...` repeats one
	@hack/deps.sh build
	hack/soak.sh $(or $(SOAK),20)

verify: rust     ## formatting, structure and lints
	@hack/deps.sh build
	cargo fmt --all --check
	cargo run -q --locked -p xtask -- structure
	cargo clippy --workspace --all-targets --locked -- -D warnings
	hack/fuzz.sh --check

smoke: build     ## the seed flow on a throw-away cluster, on both stores
	@hack/deps.sh cluster
	KUBECTL=$$(hack/kubectl.sh | tail -1) STORE=embedded $(BIN)/cluster smoke
	KUBECTL=$$(hack/kubectl.sh | tail -1) STORE=etcd $(BIN)/cluster smoke

# The daemons that the tests were compiled with: nothing is built twice, and debug assertions watch the flow.
test: verify unit ## everything that must pass before a change lands
	cargo build --workspace --bins --tests --locked
	@hack/deps.sh cluster
	KUBECTL=$$(hack/kubectl.sh | tail -1) STORE=embedded $(CHECKED)/cluster smoke
	KUBECTL=$$(hack/kubectl.sh | tail -1) STORE=etcd $(CHECKED)/cluster smoke

upstream:        ## upstream's five daemons, to compare with (Go 1.26)
	hack/upstream.sh $(UPSTREAM) $(DAEMONS) kubectl etcd

swap: build upstream ## the seed flow with each daemon exchanged, both ways round: ten runs
	@hack/deps.sh cluster
	UPSTREAM=$(UPSTREAM) BIN=$(BIN) KUBECTL=$(UPSTREAM)/kubectl e2e/swap.sh $(DAEMONS)

SUITE := kubectl e2e.test ginkgo agnhost nnp consumer consume-cpu sample-apiserver sampledeviceplugin coredns etcd etcdctl
.PHONY: conformance
conformance: build ## upstream's conformance suite; FOCUS, SKIP, NODES, STORE, P, T, OUT, KUBELET=... (needs Go)
	@hack/deps.sh cluster
	@hack/deps.sh suite
	hack/upstream.sh $(UPSTREAM) $(SUITE)
	hack/testbase.sh $(UPSTREAM)
	UPSTREAM=$(UPSTREAM) BIN=$(abspath $(BIN)) STORE=$(STORE) e2e/conformance.sh

.PHONY: node-suite
node-suite: build ## upstream's node suite with our kubelet; FOCUS, SKIP, P, T, OUT, KUBELET=... (root, needs Go)
	@hack/deps.sh cluster
	@hack/deps.sh suite
	hack/upstream.sh $(UPSTREAM) e2e_node.test $(SUITE)
	hack/testbase.sh $(UPSTREAM)
	UPSTREAM=$(UPSTREAM) BIN=$(abspath $(BIN)) e2e/node-suite.sh

.PHONY: node-suite-vm
node-suite-vm: build ## a slice of it in a machine with systemd and cgroup v2: FOCUS, SKIP, P, T, OUT, KUBELET=... (root, QEMU, needs Go)
	@hack/deps.sh suite
	@hack/deps.sh vm
	hack/upstream.sh $(UPSTREAM) e2e_node.test $(SUITE)
	hack/testbase.sh $(UPSTREAM)
	UPSTREAM=$(UPSTREAM) BIN=$(abspath $(BIN)) e2e/node-suite-vm.sh

fmt:
	cargo fmt --all

update:          ## rewrite committed data that is extracted from upstream's modules
	hack/update.sh

FUZZ_SECONDS ?= 300
.PHONY: fuzz
fuzz: rust       ## every parser on arbitrary input, FUZZ_SECONDS each; TARGETS="json yaml" for some
	@hack/deps.sh build
	FUZZ_SECONDS=$(FUZZ_SECONDS) hack/fuzz.sh $(TARGETS)

ORACLE_COUNT ?= 100000
oracle:          ## our codecs, patches, defaults and apply against upstream's, on generated input and its own cases (needs Go); records the answers
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./codec ./apply ./patch ./defaults ./tables
	cd e2e/oracle && ../../target/oracle/tables > ../../target/oracle/tables.jsonl
	cd e2e/oracle && ../../target/oracle/tables -short 4000 ../../target/oracle/tables.jsonl > ../../pkg/machinery/tests/data/tables.jsonl
	cd e2e/oracle && go run ./rules ../../apiserver/apiextensions/tests/data
	cargo test -p apiextensions --test rules
	ORACLE_TABLES=$(CURDIR)/target/oracle/tables.jsonl cargo test -p machinery --lib --test strategic_tables tables -- --nocapture
	ORACLE_DIR=$(CURDIR)/target/oracle ORACLE_RECORD=1 cargo test -p machinery --test json_patch -- --nocapture
	ORACLE_DIR=$(CURDIR)/target/oracle ORACLE_RECORD=1 cargo test -p api --test strategic --test apply --test apply_custom --test defaults -- --nocapture
	ORACLE_CODEC=$(CURDIR)/target/oracle/codec ORACLE_COUNT=$(ORACLE_COUNT) ORACLE_RECORD=$(CURDIR)/pkg/api/tests/data/codec.txt \
	  cargo test -p api --test oracle -- --nocapture --test-threads=2

CHURN_SECONDS ?= 600
.PHONY: informer-churn
informer-churn:  ## our informers of every GA resource against upstream's API server: churn for CHURN_SECONDS, one restart (needs Go)
	hack/upstream.sh $(UPSTREAM) kube-apiserver etcd
	CORTEN_UPSTREAM_BIN=$(UPSTREAM) CHURN_SECONDS=$(CHURN_SECONDS) \
	  cargo test -p informer --test upstream --locked -- --nocapture

requests:        ## malformed requests to our API server and upstream's: the same codes and reasons (UPSTREAM=, OURS= binaries)
	hack/requests/run.py $(UPSTREAM) $(OURS)

POD ?= $(shell go env GOMODCACHE)/k8s.io/apiserver@v0.37.2/pkg/endpoints/handlers/responsewriters/testdata/exemplar_pod.yaml
bench-kubelet: build upstream ## our kubelet beside upstream's: start of pods, processor time and memory at rest (root)
	@hack/deps.sh cluster
	BIN=$(BIN) OURS=$(BIN)/kubelet UPSTREAM=$(UPSTREAM)/kubelet KUBECTL=$(UPSTREAM)/kubectl e2e/kubelet-bench.sh

bench:           ## our codecs beside upstream's on a realistic pod (needs Go)
	mkdir -p target/oracle
	cd e2e/oracle && go mod download k8s.io/apiserver && go build -o ../../target/oracle/ ./bench
	target/oracle/bench $(POD) target/oracle/pod.json > target/oracle/upstream.txt
	hack/release.sh bench -p api --bench codec -- $(CURDIR)/target/oracle/pod.json $(CURDIR)/target/oracle/upstream.txt

.PHONY: oracle-scheduler bench-scheduler
ORACLE_CLUSTERS ?= 1250
oracle-scheduler: ## the scheduler's verdicts and scores against upstream's framework, eight pods a cluster (needs Go); records answers
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./scheduler
	ORACLE_SCHEDULER=$(CURDIR)/target/oracle/scheduler ORACLE_COUNT=$(ORACLE_CLUSTERS) ORACLE_RECORD=$(CURDIR)/scheduler/src/cycle/data/oracle.txt \
	  cargo test -p kube-scheduler --locked fresh_answers -- --nocapture

.PHONY: oracle-groups
GROUPS := $(CURDIR)/target/oracle/groups
ORACLE_GROUP_CLUSTERS ?= 300
# The build lays a file over upstream's package, which Go allows outside of its module cache only: hence the link. Another
# has chance decide between nodes of equal scores, as ours do; upstream v1.37.2 takes the first unless extenders rank.
oracle-groups:   ## attempts to place groups of pods, and groups of groups, against upstream's (needs Go); records answers
	mkdir -p $(GROUPS)
	ln -sfn $$(cd e2e/oracle && go list -m -f '{{.Dir}}' k8s.io/kubernetes) $(GROUPS)/kubernetes
	cp e2e/oracle/go.mod e2e/oracle/go.sum $(GROUPS)/
	cd e2e/oracle && go mod edit -replace k8s.io/kubernetes=$(GROUPS)/kubernetes $(GROUPS)/go.mod
	sed 's/var h nodeScoreHeap = nodeScoreList/&\n\tfor i := range h { h[i].Randomizer = rand.Int() }/; s/"container\/heap"/&\n\t"math\/rand"/' \
	  $(GROUPS)/kubernetes/pkg/scheduler/framework/sorted_nodes.go > $(GROUPS)/sorted_nodes.go
	printf '{"Replace":{"%s":"%s","%s":"%s"}}' $(GROUPS)/kubernetes/pkg/scheduler/oracle_export.go $(CURDIR)/e2e/oracle/groups/export.go.txt \
	  $(GROUPS)/kubernetes/pkg/scheduler/framework/sorted_nodes.go $(GROUPS)/sorted_nodes.go > $(GROUPS)/overlay.json
	cd e2e/oracle && go build -tags overlay -modfile=$(GROUPS)/go.mod -mod=mod -overlay $(GROUPS)/overlay.json -o $(GROUPS)/groups ./groups
	ORACLE_GROUPS=$(GROUPS)/groups ORACLE_COUNT=$(ORACLE_GROUP_CLUSTERS) ORACLE_RECORD=$(CURDIR)/scheduler/src/group/data/oracle.txt \
	  cargo test -p kube-scheduler --locked group::oracle::fresh_answers -- --nocapture

.PHONY: oracle-allocation
ALLOCATION := $(CURDIR)/target/oracle/allocation
oracle-allocation: ## records what upstream's kubelet promises to pods and changes of running ones (needs Go)
	mkdir -p $(ALLOCATION)
	ln -sfn $$(cd e2e/oracle && go list -m -f '{{.Dir}}' k8s.io/kubernetes) $(ALLOCATION)/kubernetes
	cp e2e/oracle/go.mod e2e/oracle/go.sum $(ALLOCATION)/
	cd e2e/oracle && go mod edit -replace k8s.io/kubernetes=$(ALLOCATION)/kubernetes $(ALLOCATION)/go.mod
	printf '{"Replace":{"%s":"%s","%s":"%s"}}' $(ALLOCATION)/kubernetes/pkg/kubelet/oracle_export.go $(CURDIR)/e2e/oracle/allocation/kubelet.go.txt \
	  $(ALLOCATION)/kubernetes/pkg/kubelet/kuberuntime/oracle_export.go $(CURDIR)/e2e/oracle/allocation/kuberuntime.go.txt > $(ALLOCATION)/overlay.json
	cd e2e/oracle && go build -tags overlay -modfile=$(ALLOCATION)/go.mod -mod=mod -overlay $(ALLOCATION)/overlay.json -o $(ALLOCATION)/allocation ./allocation
	$(ALLOCATION)/allocation stories | gzip -9n > kubelet/src/allocation/testdata/stories.jsonl.gz
	$(ALLOCATION)/allocation changes > kubelet/src/allocation/testdata/changes.jsonl

.PHONY: oracle-scheduler-config
oracle-scheduler-config: upstream ## records what upstream's scheduler says of wrong configurations
	hack/schedulerconfig/record.py $(UPSTREAM)/kube-scheduler scheduler/src/config/data/bad.txt

.PHONY: oracle-allocator
ORACLE_NODES ?= 10000
oracle-allocator: ## the devices chosen for claims against upstream's allocator, on ORACLE_NODES nodes (needs Go); records answers
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./allocator
	ORACLE_ALLOCATOR=$(CURDIR)/target/oracle/allocator ORACLE_COUNT=$(ORACLE_NODES) ORACLE_RECORD=$(CURDIR)/scheduler/src/devices/data/oracle.txt \
	  cargo test -p kube-scheduler --locked devices::oracle::fresh_answers -- --nocapture

.PHONY: oracle-devices
oracle-devices: ## records upstream's table of device allocations, each with the features it is about (needs Go)
	rm -rf target/oracle/devices && mkdir -p target/oracle/devices
	cp -r $$(cd e2e/oracle && go list -m -f '{{.Dir}}' k8s.io/dynamic-resource-allocation) target/oracle/devices/module
	chmod -R u+w target/oracle/devices/module
	cp e2e/oracle/devices/record.go.txt target/oracle/devices/module/structured/internal/experimental/allocator_test.go
	cp e2e/oracle/go.mod target/oracle/devices/go.mod && cp e2e/oracle/go.sum target/oracle/devices/go.sum
	cd e2e/oracle && go mod edit -replace k8s.io/dynamic-resource-allocation=$(CURDIR)/target/oracle/devices/module $(CURDIR)/target/oracle/devices/go.mod
	-cd e2e/oracle && DEVICES_RECORD=$(CURDIR)/scheduler/src/devices/data/table.jsonl go test -mod=mod -modfile=$(CURDIR)/target/oracle/devices/go.mod \
	  k8s.io/dynamic-resource-allocation/structured/internal/experimental -run TestAllocator > $(CURDIR)/target/oracle/devices/log

bench-scheduler: build upstream ## our scheduler beside upstream's on bare nodes; NODES, PODS, CASES
	CORTEN_UPSTREAM_BIN=$(UPSTREAM) OURS=$(BIN)/kube-scheduler $(BIN)/bench-scheduler

.PHONY: bench-controllers fault-controllers
bench-controllers: build upstream ## our controller manager beside upstream's: a Deployment of REPLICAS pods made and deleted
	CORTEN_UPSTREAM_BIN=$(UPSTREAM) OURS=$(BIN)/kube-controller-manager $(BIN)/bench-controllers

fault-controllers: build upstream ## one story of workloads under crashes, frozen and missed events, failing writes; FAULTS, ROUNDS, FIRST, STEP
	CORTEN_UPSTREAM_BIN=$(UPSTREAM) OURS=$(BIN)/kube-controller-manager $(BIN)/fault-controllers

CEL_COUNT ?= 100000
.PHONY: oracle-cel bench-cel
oracle-cel:      ## our expressions against upstream's engine: the language's conformance cases, CEL_COUNT generated ones (needs Go)
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./cel ./cel/cases
	target/oracle/cases $$(cd e2e/oracle && go list -m -f '{{.Dir}}' cel.dev/expr)/tests/simple/testdata > target/oracle/cel-conformance.jsonl
	CEL_ORACLE=$(CURDIR)/target/oracle/cel CEL_QUESTIONS=$(CURDIR)/target/oracle/cel-conformance.jsonl CEL_COUNT=$(CEL_COUNT) CEL_BROKEN=$(CEL_COUNT) \
	  cargo test -p cel --test oracle --locked live_answers -- --nocapture

bench-cel: rust  ## compiling and evaluating 20 typical rules beside upstream's engine, in processor time (needs Go)
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./cel
	target/oracle/cel bench pkg/cel/examples/rules.jsonl > target/oracle/cel-bench.txt
	cargo run -q --release --locked -p cel --example bench pkg/cel/examples/rules.jsonl target/oracle/cel-bench.txt

PROXY_COUNT ?= 5000
oracle-proxy:    ## our rules against upstream's proxiers on generated Services (needs Go, root); records the answers
	mkdir -p target/oracle kube-proxy/tests/data
	cd e2e/oracle && go build -o ../../target/oracle/ ./proxy
	for mode in iptables nftables ipvs; do \
	  unshare -n sh -c "ip link set lo up; target/oracle/proxy $$mode 1 120" 2>/dev/null | gzip -9n > kube-proxy/tests/data/$$mode.jsonl.gz; done
	ORACLE_PROXY=$(CURDIR)/target/oracle/proxy ORACLE_COUNT=$(PROXY_COUNT) cargo test -p kube-proxy --test oracle --locked -- --nocapture

bench-proxy: build ## our kube-proxy beside upstream's: first sync, one change, memory (needs Go, root)
	hack/upstream.sh $(UPSTREAM) kube-proxy
	BIN=$(BIN) UPSTREAM=$(UPSTREAM) e2e/bench-proxy.sh

.PHONY: vm-ipvs
vm-ipvs: build   ## our kube-proxy in mode ipvs beside upstream's, in a machine whose kernel has IPVS (needs Go, root, QEMU)
	hack/deps.sh vm
	hack/upstream.sh $(UPSTREAM) kube-proxy
	BIN=$(BIN) UPSTREAM=$(UPSTREAM) e2e/ipvs-vm.sh

.PHONY: oracle-workloads
oracle-workloads: ## records upstream's answers about revisions and cron schedules (needs Go)
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./revisions ./cron
	target/oracle/revisions 40 > controller-manager/src/controllers/shared/testdata/revisions.txt
	target/oracle/revisions types > controller-manager/src/controllers/shared/testdata/template-types.txt
	target/oracle/cron > pkg/machinery/src/cron/testdata/recorded.txt
