# Corten: one target per task. `make up` and `make test` need nothing done by hand before.
SHELL := /bin/bash
export CARGO_TERM_COLOR ?= never
STORE ?= embedded

.PHONY: help build deps test unit verify smoke up down fmt

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

deps:            ## Debian packages that building and testing need
	@hack/deps.sh

build: deps      ## the five daemons, release profile
	cargo build --release --locked --bins

unit: deps       ## unit, golden and integration tests
	cargo test --workspace --locked

verify: deps     ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

test: unit       ## everything that must pass before a change lands

fmt:
	cargo fmt --all
