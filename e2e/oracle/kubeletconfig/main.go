// Records what upstream says about changes of the kubelet's default configuration.
//
//	go run ./kubeletconfig > ../../kubelet/src/config/testdata/validation.jsonl
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubelet/config/v1beta1"
	_ "k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/scheme"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
)

var changes = []string{
	`{}`,
	`{"nodeLeaseDurationSeconds": -1}`,
	`{"systemCgroups": "/system"}`, `{"systemCgroups": "/system", "cgroupRoot": "/"}`, `{"systemCgroups": "/", "cgroupRoot": "/"}`,
	`{"eventBurst": -1}`, `{"eventRecordQPS": -1}`,
	`{"cpuCFSQuotaPeriod": "1ms"}`, `{"cpuCFSQuotaPeriod": "1s"}`,
	`{"imageGCHighThresholdPercent": 101}`, `{"imageGCLowThresholdPercent": 101}`, `{"imageGCLowThresholdPercent": 85}`,
	`{"imageMinimumGCAge": "-1s"}`, `{"imageMaximumGCAge": "-1s"}`, `{"imageMaximumGCAge": "1m"}`, `{"imageMaximumGCAge": "1h30m"}`,
	`{"iptablesDropBit": 32}`, `{"iptablesMasqueradeBit": -1}`,
	`{"kubeAPIQPS": -1}`,
	`{"defaultPodSysctls": {"net.core.somaxconn": "1"}}`, `{"defaultPodSysctls": {}}`,
	`{"featureGates": {"DefaultPodSysctls": true}, "defaultPodSysctls": {"net.core.somaxconn": "1", "kernel/shm_rmid_forced": "1"}}`,
	`{"featureGates": {"DefaultPodSysctls": true}, "defaultPodSysctls": {"net.core.*": "1"}}`,
	`{"featureGates": {"DefaultPodSysctls": true}, "defaultPodSysctls": {"vm.swappiness": "1"}, "imageMinimumGCAge": "-1s", "imageGCHighThresholdPercent": 101}`,
	`{"featureGates": {"DefaultPodSysctls": true}, "defaultPodSysctls": {"kernel.sem": "1", "kernel/sem": "1"}}`,
	`{"featureGates": {"DefaultPodSysctls": true}, "defaultPodSysctls": {"user.max_user_namespaces": "1", "kernel.domainname": "a", "kernel.shm": "1"}}`,
	`{"nodeStatusMaxImages": -2}`, `{"nodeStatusMaxImages": -1}`,
	`{"maxOpenFiles": -1}`, `{"maxPods": -1}`, `{"oomScoreAdj": 1001}`, `{"oomScoreAdj": -1001}`, `{"podsPerCore": -1}`,
	`{"registryBurst": -1}`, `{"registryPullQPS": -1}`,
	`{"maxParallelImagePulls": 0}`, `{"maxParallelImagePulls": 2}`, `{"serializeImagePulls": false, "maxParallelImagePulls": 2}`, `{"serializeImagePulls": true, "maxParallelImagePulls": 2}`,
	`{"memorySwap": {"swapBehavior": "x"}}`, `{"memorySwap": {"swapBehavior": "LimitedSwap"}}`,
	`{"hairpinMode": "x"}`, `{"hairpinMode": "none"}`,
	`{"enforceNodeAllocatable": ["none"]}`, `{"enforceNodeAllocatable": ["none", "pods"]}`, `{"enforceNodeAllocatable": ["pods", "pods"]}`,
	`{"enforceNodeAllocatable": ["system-reserved"]}`, `{"enforceNodeAllocatable": ["kube-reserved-compressible", "x"]}`,
	`{"enforceNodeAllocatable": ["kube-reserved", "kube-reserved-compressible"], "kubeReservedCgroup": "/a"}`,
	`{"enforceNodeAllocatable": ["system-reserved", "system-reserved-compressible"], "systemReservedCgroup": "/a"}`,
	`{"enforceNodeAllocatable": ["pods"], "cgroupsPerQOS": false}`, `{"enforceNodeAllocatable": ["none"], "cgroupsPerQOS": false}`,
	`{"reservedSystemCPUs": "0-1", "kubeReservedCgroup": "/a"}`, `{"reservedSystemCPUs": "0-1"}`,
	`{"memoryThrottlingFactor": 1.5}`, `{"memoryThrottlingFactor": 0}`, `{"memoryThrottlingFactor": 0.5}`,
	`{"featureGates": {"MemoryQoS": false}, "memoryThrottlingFactor": 0.9}`, `{"featureGates": {"MemoryQoS": false}, "memoryThrottlingFactor": 1.5}`,
	`{"memoryReservationPolicy": "TieredReservation"}`, `{"memoryReservationPolicy": "x"}`, `{"memoryReservationPolicy": ""}`,
	`{"featureGates": {"MemoryQoS": false}, "memoryReservationPolicy": "TieredReservation"}`,
	`{"containerRuntimeEndpoint": ""}`,
	`{"enableSystemLogQuery": true}`, `{"enableSystemLogQuery": true, "enableSystemLogHandler": false}`,
	`{"containerLogMaxWorkers": -1}`, `{"containerLogMonitorInterval": "2s"}`, `{"containerLogMaxFiles": 1}`,
	`{"podLogsDir": "var/log"}`, `{"podLogsDir": "/var/../log"}`, `{"podLogsDir": "/var/log/"}`, `{"podLogsDir": "/vär"}`,
	`{"crashLoopBackOff": {"maxContainerRestartPeriod": "500ms"}, "featureGates": {"KubeletCrashLoopBackOffMax": true}}`,
	`{"crashLoopBackOff": {"maxContainerRestartPeriod": "301s"}, "featureGates": {"KubeletCrashLoopBackOffMax": true}}`,
	`{"topologyManagerPolicy": "x"}`, `{"topologyManagerPolicy": "restricted", "topologyManagerScope": "x"}`,
	`{"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "40s"}`, `{"shutdownGracePeriod": "500ms", "shutdownGracePeriodCriticalPods": "-1s"}`,
	`{"shutdownGracePeriod": "30s", "shutdownGracePeriodByPodPriority": [{"priority": 0, "shutdownGracePeriodSeconds": 1}]}`,
	`{"shutdownGracePeriodByPodPriority": [{"priority": 0, "shutdownGracePeriodSeconds": 1}], "featureGates": {"GracefulNodeShutdownBasedOnPodPriority": false}}`,
	`{"maxPods": -1, "podsPerCore": -1, "containerLogMaxFiles": 0}`,
	`{"imagePullCredentialsVerificationPolicy": "x"}`, `{"imagePullCredentialsVerificationPolicy": "AlwaysVerify"}`, `{"imagePullCredentialsVerificationPolicy": "NeverVerify"}`,
	`{"preloadedImagesVerificationAllowlist": ["a"]}`,
	`{"imagePullCredentialsVerificationPolicy": "NeverVerifyAllowlistedImages", "preloadedImagesVerificationAllowlist": ["reg.io/team/*", "busybox"]}`,
	`{"imagePullCredentialsVerificationPolicy": "NeverVerifyAllowlistedImages", "preloadedImagesVerificationAllowlist": ["a", "a:1", "*"]}`,
	`{"featureGates": {"KubeletEnsureSecretPulledImages": false}, "preloadedImagesVerificationAllowlist": ["a"]}`,
	`{"featureGates": {"KubeletEnsureSecretPulledImages": false}, "imagePullCredentialsVerificationPolicy": ""}`,
	`{"reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}, {"numaNode": 1, "limits": {"hugepages-2Mi": "2Mi"}}]}`,
	`{"reservedMemory": [{"numaNode": 0, "limits": {"cpu": "1"}}, {"numaNode": 1, "limits": {"memory": "0"}}]}`,
	`{"reservedMemory": [{"numaNode": 1, "limits": {"memory": "1"}}, {"numaNode": 1, "limits": {"memory": 7}}], "memoryThrottlingFactor": 2}`,
}

type record struct {
	Defaults *v1beta1.KubeletConfiguration `json:"defaults,omitempty"`
	Change   json.RawMessage               `json:"change,omitempty"`
	Errors   []string                      `json:"errors,omitempty"`
}

func defaults() (*v1beta1.KubeletConfiguration, *runtime.Scheme, error) {
	kubelet, _, err := scheme.NewSchemeAndCodecs()
	if err != nil {
		return nil, nil, err
	}
	document := &v1beta1.KubeletConfiguration{}
	kubelet.Default(document)
	// The machine's own hierarchy is not what is asked about.
	no := false
	document.FailCgroupV1 = &no
	return document, kubelet, nil
}

func one(change string) (record, error) {
	document, kubelet, err := defaults()
	if err != nil {
		return record{}, err
	}
	if err := json.Unmarshal([]byte(change), document); err != nil {
		return record{}, err
	}
	internal := &config.KubeletConfiguration{}
	if err := kubelet.Convert(document, internal, nil); err != nil {
		return record{}, err
	}
	out := record{Change: json.RawMessage(change)}
	if err := validation.ValidateKubeletConfiguration(internal, utilfeature.DefaultFeatureGate); err != nil {
		for _, e := range err.(utilerrors.Aggregate).Errors() {
			out.Errors = append(out.Errors, e.Error())
		}
	}
	return out, nil
}

func main() {
	encoder := json.NewEncoder(os.Stdout)
	document, _, err := defaults()
	if err == nil {
		err = encoder.Encode(record{Defaults: document})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, change := range changes {
		line, err := one(change)
		if err == nil {
			err = encoder.Encode(line)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, change, err)
			os.Exit(1)
		}
	}
}
