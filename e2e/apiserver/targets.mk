# Included by the Makefile of the repository.

# What operators do beyond `make up`.
include e2e/operators.mk

.PHONY: bench-apiserver crash-apiserver full-disk-apiserver rules-apiserver storage-tests
ETCD ?= etcd
bench-apiserver: rust  ## CPU and memory per request, ours beside upstream's (needs Go, etcd, upstream's kube-apiserver)
	@hack/deps.sh build
	hack/release.sh -p kube-apiserver
	cd e2e/apiserver && go run ./bench -ours $(abspath $(BIN)/kube-apiserver) -upstream $(UPSTREAM)/kube-apiserver -etcd $(ETCD)

CYCLES ?= 200
crash-apiserver: rust  ## kills our API server under load and checks what comes back (needs Go)
	@hack/deps.sh build
	hack/release.sh -p kube-apiserver
	cd e2e/apiserver && go build -o ../../target/crash ./crash
	for plant in lost twice skip; do target/crash -server $(abspath $(BIN)/kube-apiserver) -cycles 6 -plant $$plant || exit 1; done
	target/crash -server $(abspath $(BIN)/kube-apiserver) -cycles $(CYCLES)

rules-apiserver: rust  ## the rules of lists and watches on ours and on upstream's (needs Go, etcd, upstream's kube-apiserver)
	@hack/deps.sh build
	hack/release.sh -p kube-apiserver
	cd e2e/apiserver && go run ./rules -ours $(abspath $(BIN)/kube-apiserver) -upstream $(UPSTREAM)/kube-apiserver -etcd $(ETCD)

full-disk-apiserver: rust  ## what our API server does when its disk is full (needs Go, root)
	@hack/deps.sh build
	hack/release.sh -p kube-apiserver
	cd e2e/apiserver && go run ./fulldisk -server $(abspath $(BIN)/kube-apiserver)

storage-tests: rust    ## upstream's storage tests on our embedded store (needs Go)
	@hack/deps.sh build
	hack/release.sh -p storage --example etcd_facade
	e2e/storage/run.sh $(BIN)/examples/etcd_facade

HISTORIES ?= 200
.PHONY: history-tests
history-tests: rust    ## etcd's history validators on our embedded store, killed and stopped under traffic (needs Go)
	@hack/deps.sh build
	hack/release.sh -p storage --bin corten-store --example etcd_facade
	cd e2e/storage/history && go build -o $(abspath $(BIN)/history) .
	for plant in lost twice value; do $(BIN)/history -facade $(BIN)/examples/etcd_facade -store $(BIN)/corten-store -rounds 4 -plant $$plant >/dev/null || exit 1; done
	$(BIN)/history -facade $(BIN)/examples/etcd_facade -store $(BIN)/corten-store -rounds $(HISTORIES)

RUNTIME_CONFIG ?=
FEATURE_GATES ?=
.PHONY: same-data-apiserver
same-data-apiserver: rust ## ours and upstream's API server on one etcd rewrite each other's objects, of every kind; their documents (needs Go, etcd, upstream's kube-apiserver)
	@hack/deps.sh build
	hack/release.sh -p kube-apiserver
	cd e2e/oracle && go run ./samedata -ours $(abspath $(BIN)/kube-apiserver) -upstream $(UPSTREAM)/kube-apiserver -etcd $(ETCD) -runtime-config "$(RUNTIME_CONFIG)" -feature-gates "$(FEATURE_GATES)"

.PHONY: kubectl-scripts
kubectl-scripts: rust ## upstream's kubectl scripts against our API server and upstream's; WHAT="pod crd" runs some (needs Go, root)
	@hack/deps.sh build
	hack/upstream.sh $(UPSTREAM) kube-apiserver kube-controller-manager kubectl kubectl-convert etcd
	hack/release.sh -p kube-apiserver
	e2e/apiserver/kubectl-scripts.sh $(BIN)/kube-apiserver $(UPSTREAM) target/kubectl-scripts $(WHAT)

STRATEGY_COUNT ?= 2000
.PHONY: oracle-strategy
oracle-strategy: ## our strategies against upstream's, STRATEGY_COUNT creates and updates of every kind (needs Go); records answers
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./strategy
	ORACLE_DIR=$(CURDIR)/target/oracle ORACLE_COUNT=$(STRATEGY_COUNT) ORACLE_RECORD=1 ORACLE_RESULTS=$(CURDIR)/e2e/oracle/RESULTS.md \
	  cargo test -p registry --locked --test strategies -- --nocapture

.PHONY: oracle-bootstrap
oracle-bootstrap: ## records upstream's default roles and bindings, with the gates they depend on (needs Go)
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./bootstrap
	target/oracle/bootstrap apiserver/data/rbac-bootstrap.jsonl apiserver/src/hooks/testdata/rbac-gates.jsonl
	cargo test -p kube-apiserver --lib --locked hooks::rbac

PRINTERS_COUNT ?= 1000
PRINTERS = ORACLE_DIR=$(CURDIR)/target/oracle ORACLE_COUNT=$(PRINTERS_COUNT) ORACLE_RECORD=1 cargo test -p kube-apiserver --lib --locked rows_as_upstream -- --nocapture
.PHONY: oracle-printers
oracle-printers: ## rows of tables beside upstream's printers, PRINTERS_COUNT objects of every kind (needs Go); records answers and columns
	mkdir -p target/oracle
	cd e2e/oracle && go build -o ../../target/oracle/ ./printers
	# Columns are part of the program, and rows with other columns are not recorded: the first run sees to the columns.
	$(PRINTERS)
	$(PRINTERS)
