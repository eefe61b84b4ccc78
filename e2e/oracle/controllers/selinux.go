package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"sort"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	csitrans "k8s.io/csi-translation-lib"
	"k8s.io/klog/v2"
	volumecache "k8s.io/kubernetes/pkg/controller/volume/selinuxwarning/cache"
	"k8s.io/kubernetes/pkg/controller/volume/selinuxwarning/translator"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/csi"
	"k8s.io/kubernetes/pkg/volume/csimigration"
	"k8s.io/kubernetes/pkg/volume/fc"
	"k8s.io/kubernetes/pkg/volume/iscsi"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// told writes conflicts so that they can be compared, sorted; in full with reason and message.
func told(all []volumecache.Conflict, full bool) []string {
	out := []string{}
	for _, c := range all {
		one := fmt.Sprintf("%s %s %q %s %q", c.PropertyName, c.Pod, c.PropertyValue, c.OtherPod, c.OtherPropertyValue)
		if full {
			one = fmt.Sprintf("%s %s: %s", one, c.EventReason, c.EventMessage())
		}
		out = append(out, one)
	}
	sort.Strings(out)
	return out
}

func conflicts(out *json.Encoder) error {
	r := rand.New(rand.NewSource(4))
	c := volumecache.NewVolumeLabelCache(&translator.ControllerSELinuxTranslator{})
	logger := klog.Background()
	for n := 0; n < 300; n++ {
		pod := cache.ObjectName{Namespace: pick(r, "a", "b"), Name: fmt.Sprintf("p%d", r.Intn(5))}
		record := map[string]any{}
		switch r.Intn(8) {
		case 0, 1:
			c.DeletePod(logger, pod)
			record["delete"] = pod.String()
		case 2:
			driver := pick(r, "one", "two", "three")
			pods := []string{}
			for _, pod := range c.GetPodsForCSIDriver(driver) {
				pods = append(pods, pod.String())
			}
			sort.Strings(pods)
			record["driver"], record["pods"] = driver, pods
		default:
			at := r.Intn(4)
			label := pick(r, "", ":::s0:c1,c2", ":::s0:c98,c99", "u:r:t:s0:c1,c2", "u::t:s0:c1,c2", "x:r:t:s0:c1,c2", "u:r:t:", "::t")
			policy := v1.SELinuxChangePolicyMountOption
			if label == "" {
				policy = pick(r, v1.SELinuxChangePolicyRecursive, v1.SELinuxChangePolicyMountOption)
			}
			found := c.AddVolume(logger, v1.UniqueVolumeName(fmt.Sprintf("v%d", at)), pod, label, policy, []string{"one", "two", "two", ""}[at])
			record["add"] = map[string]any{"pod": pod.String(), "volume": fmt.Sprintf("v%d", at), "label": label, "policy": policy, "driver": []string{"one", "two", "two", ""}[at]}
			record["found"] = told(found, n < 30)
		}
		all := c.GetConflicts(logger)
		record["count"] = len(all)
		if n%25 == 24 {
			record["all"] = told(all, false)
		}
		if err := out.Encode(record); err != nil {
			return err
		}
	}
	return nil
}

func uniqueName(spec *volume.Spec, namespace string) string {
	translate := csitrans.New()
	if migratable, err := csimigration.NewPluginManager(translate).IsMigratable(spec); err == nil && migratable {
		if spec, err = csimigration.TranslateInTreeSpecToCSI(klog.Background(), spec, namespace, translate); err != nil {
			return ""
		}
	}
	for _, plugin := range append(append(fc.ProbeVolumePlugins(), iscsi.ProbeVolumePlugins()...), csi.ProbeVolumePlugins()...) {
		if plugin.CanSupport(spec) {
			name, _ := volumeutil.GetUniqueVolumeNameFromSpec(plugin, spec)
			return string(name)
		}
	}
	return ""
}

func source(r *rand.Rand, pv *v1.PersistentVolumeSource, inline *v1.VolumeSource) {
	pointer := func(s string) *string { return &s }
	lun := func() *int32 { n := int32(r.Intn(3)); return &n }
	switch r.Intn(10) {
	case 0:
		pv.CSI = &v1.CSIPersistentVolumeSource{Driver: pick(r, "csi.example.org", "ebs.csi.aws.com"), VolumeHandle: pick(r, "h1", "vol-1")}
		inline.CSI = &v1.CSIVolumeSource{Driver: "csi.example.org"}
	case 1:
		pv.ISCSI = &v1.ISCSIPersistentVolumeSource{TargetPortal: "10.0.0.1:3260", IQN: pick(r, "iqn.a", "iqn.b"), Lun: *lun()}
		inline.ISCSI = &v1.ISCSIVolumeSource{TargetPortal: pv.ISCSI.TargetPortal, IQN: pv.ISCSI.IQN, Lun: pv.ISCSI.Lun}
	case 2:
		pv.FC = &v1.FCVolumeSource{TargetWWNs: some(r, "50060e801049cfd1", "50060e801049cfd0"), WWIDs: some(r, "3600508b400105e210000900000490000")}
		if r.Intn(2) == 0 {
			pv.FC.Lun = lun()
		}
		inline.FC = pv.FC
	case 3:
		pv.AWSElasticBlockStore = &v1.AWSElasticBlockStoreVolumeSource{VolumeID: pick(r, "vol-1", "aws://us-east-1a/vol-1", "aws:///vol-2", "aws://us-east-1a/disk-1", "aws://us-east-1a", "aws://us-east-1a/vol-1/x", "anything")}
		inline.AWSElasticBlockStore = pv.AWSElasticBlockStore
	case 4:
		pv.GCEPersistentDisk = &v1.GCEPersistentDiskVolumeSource{PDName: pick(r, "d1", "d2")}
		inline.GCEPersistentDisk = pv.GCEPersistentDisk
	case 5:
		pv.AzureDisk = &v1.AzureDiskVolumeSource{DiskName: "d", DataDiskURI: "/subscriptions/s/disks/d"}
		if r.Intn(2) == 0 {
			kind := pick(r, v1.AzureManagedDisk, v1.AzureSharedBlobDisk, "managed")
			pv.AzureDisk.Kind = &kind
		}
		inline.AzureDisk = pv.AzureDisk
	case 6:
		secret := pick(r, "azure-storage-account-acc-secret", "secret", "azure-storage-account--secret", "my-azure-storage-account-a-secret-b-secret")
		pv.AzureFile = &v1.AzureFilePersistentVolumeSource{SecretName: secret, ShareName: "share"}
		if r.Intn(3) > 0 {
			pv.AzureFile.SecretNamespace = pointer(pick(r, "secrets", ""))
		}
		inline.AzureFile = &v1.AzureFileVolumeSource{SecretName: secret, ShareName: "share"}
	case 7:
		pv.Cinder = &v1.CinderPersistentVolumeSource{VolumeID: "c1"}
		inline.Cinder = &v1.CinderVolumeSource{VolumeID: "c1"}
	case 8:
		pv.VsphereVolume = &v1.VsphereVirtualDiskVolumeSource{VolumePath: "[store] disk.vmdk"}
		inline.VsphereVolume = pv.VsphereVolume
	default:
		pv.PortworxVolume = &v1.PortworxVolumeSource{VolumeID: "p1"}
		inline.PortworxVolume = pv.PortworxVolume
	}
}

func volumes(out *json.Encoder) error {
	r := rand.New(rand.NewSource(5))
	for n := 0; n < 200; n++ {
		pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pv%d", r.Intn(3)), Labels: map[string]string{}, Annotations: map[string]string{}}}
		inline := &v1.Volume{Name: "data"}
		source(r, &pv.Spec.PersistentVolumeSource, &inline.VolumeSource)
		for _, label := range some(r, "failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone") {
			pv.Labels[label] = pick(r, "us-central1-a", "us-central1-a__us-central1-b", "us-central1-a__us-east1-b", "zone__other", "")
		}
		if r.Intn(3) == 0 {
			pv.Annotations["kubernetes.io/azure-file-resource-group"] = "group"
		}
		if r.Intn(3) > 0 {
			pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "ns", Name: "c"}
		}
		name := uniqueName(volume.NewSpecFromPersistentVolume(pv.DeepCopy(), false), "ns")
		if err := out.Encode(map[string]any{"pv": pv, "name": name}); err != nil {
			return err
		}
		if err := out.Encode(map[string]any{"volume": inline, "name": uniqueName(volume.NewSpecFromVolume(inline.DeepCopy()), "ns")}); err != nil {
			return err
		}
	}
	return nil
}
