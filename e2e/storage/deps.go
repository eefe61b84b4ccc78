//go:build tools

// Package storage pins the upstream modules whose tests run.sh runs.
package storage

import _ "k8s.io/apiserver/pkg/storage/etcd3"
