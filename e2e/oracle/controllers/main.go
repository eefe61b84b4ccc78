// Command controllers answers what upstream's controllers compute, for cases it makes up from a fixed seed.
//
// controllers repack   prints {"in": [subset...], "out": [subset...]} lines: RepackSubsets of package
//
//	k8s.io/kubernetes/pkg/api/v1/endpoints.
//
// controllers usage    prints {"pod"|"service"|"claim": object, "usage": amounts} lines: what quotas count, by package
//
//	k8s.io/kubernetes/pkg/quota/v1/evaluator/core, at the beginning of 2026.
//
// controllers sign     prints {"ca", "key", "request", "usages", "ttl", "now", "serial", "tbs" | "error"} lines: the part to
//
//	be signed of certificates by package k8s.io/kubernetes/pkg/controller/certificates/authority. Keys are new each time.
//
// controllers conflicts prints {"add"|"delete"|"driver": ..., ...} lines: one run of operations on the cache of package
//
//	k8s.io/kubernetes/pkg/controller/volume/selinuxwarning/cache, and what each answers. See selinux.go.
//
// controllers volumes  prints {"pv"|"volume": object, "name": name} lines: the names by which pods share volumes, by packages
//
//	k8s.io/csi-translation-lib and k8s.io/kubernetes/pkg/volume. See selinux.go.
//
// controllers pools    prints {"request", "slices", "claims", "rules", "status"} lines: answers of package
//
//	k8s.io/kubernetes/pkg/controller/resourcepoolstatusrequest. See pools.go.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand"
	"net"
	"net/url"
	"os"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/api/v1/endpoints"
	"k8s.io/kubernetes/pkg/controller/certificates/authority"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/dump"
)

func pick[T any](r *rand.Rand, from ...T) T { return from[r.Intn(len(from))] }

func address(r *rand.Rand) v1.EndpointAddress {
	a := v1.EndpointAddress{IP: fmt.Sprintf("10.0.0.%d", r.Intn(12))}
	if r.Intn(3) > 0 {
		node := pick(r, "n1", "n2")
		a.NodeName = &node
	}
	if r.Intn(4) > 0 {
		n := r.Intn(3)
		a.TargetRef = &v1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: fmt.Sprintf("p%d", n), UID: types.UID(fmt.Sprintf("u%d", n))}
	}
	if r.Intn(5) == 0 {
		a.Hostname = "h"
	}
	return a
}

func port(r *rand.Rand) v1.EndpointPort {
	return v1.EndpointPort{Name: pick(r, "", "http", "https"), Port: pick[int32](r, 80, 443, 8080), Protocol: pick(r, v1.ProtocolTCP, v1.ProtocolUDP)}
}

func subset(r *rand.Rand) (s v1.EndpointSubset) {
	for i := r.Intn(4); i > 0; i-- {
		s.Addresses = append(s.Addresses, address(r))
	}
	for i := r.Intn(3); i > 0; i-- {
		s.NotReadyAddresses = append(s.NotReadyAddresses, address(r))
	}
	for i := r.Intn(3); i > 0; i-- {
		s.Ports = append(s.Ports, port(r))
	}
	return s
}

func repack(out *json.Encoder) error {
	r := rand.New(rand.NewSource(1))
	for n := 0; n < 300; n++ {
		in := []v1.EndpointSubset{}
		for i := r.Intn(5); i > 0; i-- {
			in = append(in, subset(r))
		}
		record := map[string]any{"in": in, "out": endpoints.RepackSubsets(in)}
		if n < 20 {
			record["dump"] = dump.ForHash(in)
		}
		if err := out.Encode(record); err != nil {
			return err
		}
	}
	return nil
}

func amounts(r *rand.Rand) v1.ResourceList {
	if r.Intn(4) == 0 {
		return nil
	}
	list := v1.ResourceList{}
	choices := map[v1.ResourceName][]string{
		"cpu": {"100m", "2", "1500m", "0"}, "memory": {"64Mi", "1Gi", "500M"}, "ephemeral-storage": {"1Gi", "1"},
		"hugepages-2Mi": {"4Mi"}, "example.com/gpu": {"1", "2"}, "requests.example.com/odd": {"1"},
		"deviceclass.resource.kubernetes.io/gpu": {"1"},
	}
	for _, name := range []v1.ResourceName{"cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "example.com/gpu", "requests.example.com/odd", "deviceclass.resource.kubernetes.io/gpu"} {
		if r.Intn(2) == 0 {
			list[name] = resource.MustParse(pick(r, choices[name]...))
		}
	}
	if len(list) == 0 {
		// Nothing and an empty list are not the same to upstream, but look the same as JSON.
		return nil
	}
	return list
}

func requirements(r *rand.Rand) v1.ResourceRequirements {
	return v1.ResourceRequirements{Requests: amounts(r), Limits: amounts(r)}
}

func quotaPod(r *rand.Rand) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	add := func(name string, to *[]v1.Container, statuses *[]v1.ContainerStatus, init bool) {
		c := v1.Container{Name: name, Resources: requirements(r)}
		if init && r.Intn(3) == 0 {
			always := v1.ContainerRestartPolicyAlways
			c.RestartPolicy = &always
		}
		*to = append(*to, c)
		if r.Intn(3) == 0 {
			status := v1.ContainerStatus{Name: name}
			if r.Intn(2) == 0 {
				status.AllocatedResources = amounts(r)
			}
			if r.Intn(2) == 0 {
				set := requirements(r)
				status.Resources = &set
			}
			*statuses = append(*statuses, status)
		}
	}
	for i := r.Intn(3); i >= 0; i-- {
		add(fmt.Sprintf("c%d", i), &pod.Spec.Containers, &pod.Status.ContainerStatuses, false)
	}
	for i := r.Intn(4); i > 0; i-- {
		add(fmt.Sprintf("i%d", i), &pod.Spec.InitContainers, &pod.Status.InitContainerStatuses, true)
	}
	if r.Intn(4) == 0 {
		own := requirements(r)
		pod.Spec.Resources = &own
	}
	if r.Intn(4) == 0 {
		pod.Spec.Overhead = v1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("8Mi")}
	}
	if r.Intn(6) == 0 {
		pod.Status.Conditions = []v1.PodCondition{{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: pick(r, "Infeasible", "Deferred")}}
	}
	pod.Status.Phase = pick(r, v1.PodRunning, v1.PodRunning, v1.PodRunning, v1.PodPending, v1.PodFailed, v1.PodSucceeded)
	if r.Intn(8) == 0 {
		at, grace := metav1.NewTime(now.Add(time.Duration(r.Intn(120)-60)*time.Second)), int64(r.Intn(60))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &at, &grace
	}
	return pod
}

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func usage(out *json.Encoder) error {
	r := rand.New(rand.NewSource(2))
	for n := 0; n < 200; n++ {
		pod := quotaPod(r)
		used, err := core.PodUsageFunc(pod, testclock.NewFakeClock(now))
		if err != nil {
			return err
		}
		if err := out.Encode(map[string]any{"pod": pod, "usage": used}); err != nil {
			return err
		}
	}
	encode := func(kind string, object runtime.Object, used v1.ResourceList, err error) error {
		if err != nil {
			return err
		}
		return out.Encode(map[string]any{kind: object, "usage": used})
	}
	for n := 0; n < 50; n++ {
		s := &v1.Service{Spec: v1.ServiceSpec{Type: pick(r, v1.ServiceTypeClusterIP, v1.ServiceTypeNodePort, v1.ServiceTypeLoadBalancer, v1.ServiceTypeExternalName)}}
		for i := r.Intn(4); i > 0; i-- {
			s.Spec.Ports = append(s.Spec.Ports, v1.ServicePort{Port: int32(i), NodePort: pick[int32](r, 0, 30000)})
		}
		if r.Intn(3) == 0 {
			allocate := r.Intn(2) == 0
			s.Spec.AllocateLoadBalancerNodePorts = &allocate
		}
		used, err := core.NewServiceEvaluator(nil).Usage(s)
		if err := encode("service", s, used, err); err != nil {
			return err
		}
	}
	for n := 0; n < 50; n++ {
		c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"}}
		if r.Intn(5) > 0 {
			c.Spec.Resources.Requests = v1.ResourceList{"storage": resource.MustParse(pick(r, "1Gi", "1500m", "5G"))}
		}
		if r.Intn(2) == 0 {
			class := pick(r, "gold", "")
			c.Spec.StorageClassName = &class
		}
		if r.Intn(4) == 0 {
			c.Annotations = map[string]string{"volume.beta.kubernetes.io/storage-class": "silver"}
		}
		if r.Intn(3) == 0 {
			c.Status.AllocatedResources = v1.ResourceList{"storage": resource.MustParse(pick(r, "2Gi", "1", "7500m"))}
		}
		used, err := core.NewPersistentVolumeClaimEvaluator(nil).Usage(c)
		if err := encode("claim", c, used, err); err != nil {
			return err
		}
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey(kind int) crypto.Signer {
	switch kind {
	case 0:
		return must(rsa.GenerateKey(crand.Reader, 2048))
	case 1:
		return must(ecdsa.GenerateKey(elliptic.P256(), crand.Reader))
	case 2:
		return must(ecdsa.GenerateKey(elliptic.P384(), crand.Reader))
	case 3:
		return must(ecdsa.GenerateKey(elliptic.P521(), crand.Reader))
	default:
		_, key, err := ed25519.GenerateKey(crand.Reader)
		return must(key, err)
	}
}

func keyPEM(key crypto.Signer, r *rand.Rand) string {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if r.Intn(2) == 0 {
			return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))
		}
	case *ecdsa.PrivateKey:
		if r.Intn(2) == 0 {
			return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(k))}))
		}
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}))
}

func some(r *rand.Rand, from ...string) (out []string) {
	for _, s := range from {
		if r.Intn(3) == 0 {
			out = append(out, s)
		}
	}
	return out
}

func request(r *rand.Rand, key crypto.Signer) []byte {
	subject := pkix.Name{
		Country: some(r, "DE"), Organization: some(r, "system:nodes", "dev", "b*d", "M\u00fcller", "a"), OrganizationalUnit: some(r, "unit"),
		Locality: some(r, "town"), Province: some(r, "land"), StreetAddress: some(r, "street 1"), PostalCode: some(r, "12345"),
	}
	if r.Intn(4) > 0 {
		subject.CommonName = pick(r, "system:node:n1", "alice", "under_score", "\u00e4")
	}
	if r.Intn(4) == 0 {
		subject.SerialNumber = "7"
	}
	if r.Intn(4) == 0 {
		subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "a@b.c"}}
	}
	t := &x509.CertificateRequest{Subject: subject, DNSNames: some(r, "a.example.org", "*.b"), EmailAddresses: some(r, "a@b.c")}
	for _, ip := range some(r, "10.0.0.1", "fd00::1") {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	for _, u := range some(r, "spiffe://a/b") {
		t.URIs = append(t.URIs, must(url.Parse(u)))
	}
	return must(x509.CreateCertificateRequest(crand.Reader, t, key))
}

func sign(out *json.Encoder) error {
	r := rand.New(rand.NewSource(3))
	for n := 0; n < 50; n++ {
		caKey := newKey(n % 5)
		end := pick(r, now.AddDate(10, 0, 0), now.AddDate(40, 0, 0), now.Add(time.Hour), now.Add(-time.Hour))
		if n < 40 {
			end = now.AddDate(30, 0, 0)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca", Organization: []string{"o"}}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: end,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if r.Intn(4) == 0 {
			template.Subject = pkix.Name{CommonName: "alice"}
		}
		ca := must(x509.ParseCertificate(must(x509.CreateCertificate(crand.Reader, template, template, caKey.Public(), caKey))))
		der := request(r, newKey((n/5)%5))
		var usages []certificatesv1.KeyUsage
		for _, u := range some(r, "signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment", "cert sign", "crl sign", "encipher only", "decipher only", "any", "server auth", "client auth", "code signing", "email protection", "s/mime", "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing", "microsoft sgc", "netscape sgc") {
			usages = append(usages, certificatesv1.KeyUsage(u))
		}
		if n%11 == 10 {
			usages = append(usages, "telepathy")
		}
		ttl := pick(r, 10*time.Minute, 7*time.Hour, 8*time.Hour, 365*24*time.Hour, 27*365*24*time.Hour)
		authority := &authority.CertificateAuthority{Certificate: ca, PrivateKey: caKey}
		policy := authorityPolicy(ttl, usages)
		record := map[string]any{
			"ca": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})), "key": keyPEM(caKey, r),
			"request": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
			"usages":  usages, "ttl": int64(ttl / time.Second), "now": now,
		}
		if usages == nil {
			record["usages"] = []string{}
		}
		signed, err := authority.Sign(der, policy)
		if err != nil {
			record["error"] = err.Error()
		} else {
			cert := must(x509.ParseCertificate(signed))
			record["serial"], record["tbs"] = hex.EncodeToString(cert.SerialNumber.Bytes()), hex.EncodeToString(cert.RawTBSCertificate)
		}
		if err := out.Encode(record); err != nil {
			return err
		}
	}
	return nil
}

func authorityPolicy(ttl time.Duration, usages []certificatesv1.KeyUsage) authority.PermissiveSigningPolicy {
	return authority.PermissiveSigningPolicy{TTL: ttl, Usages: usages, Backdate: 5 * time.Minute, Short: 8 * time.Hour, Now: func() time.Time { return now }}
}

func main() {
	commands := map[string]func(*json.Encoder) error{"repack": repack, "usage": usage, "sign": sign, "conflicts": conflicts, "volumes": volumes, "pools": pools}
	command := commands[os.Args[1]]
	if err := command(json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
