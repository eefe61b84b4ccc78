package main

import (
	"strings"

	core "k8s.io/api/core/v1"
	resource "k8s.io/api/resource/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// result is one allocated device of a driver.
func result(request, driver string, skips ...resource.SkipNodeOperation) resource.DeviceRequestAllocationResult {
	return resource.DeviceRequestAllocationResult{Request: request, Driver: driver, Pool: "pool", Device: "dev-" + request, SkipNodeOperations: skips}
}

// claim is allocated and reserved for pods.
func claim(name, uid string, pods []string, results ...resource.DeviceRequestAllocationResult) *resource.ResourceClaim {
	out := &resource.ResourceClaim{ObjectMeta: meta.ObjectMeta{Namespace: "n", Name: name, UID: types.UID(uid)}}
	for _, pod := range pods {
		reference := resource.ResourceClaimConsumerReference{Resource: "pods", Name: pod, UID: types.UID(pod)}
		out.Status.ReservedFor = append(out.Status.ReservedFor, reference)
	}
	if results != nil {
		out.Status.Allocation = &resource.AllocationResult{Devices: resource.DeviceAllocationResult{Results: results}}
	}
	return out
}

func owned(claim *resource.ResourceClaim, kind, version, name, uid string) *resource.ResourceClaim {
	yes := true
	claim.OwnerReferences = []meta.OwnerReference{{APIVersion: version, Kind: kind, Name: name, UID: types.UID(uid), Controller: &yes}}
	return claim
}

// use is a container's reference: claim and request.
type use struct{ claim, request string }

func pod(uid string, claims []core.PodResourceClaim, uses ...use) *core.Pod {
	container := core.Container{Name: "c", Image: "i"}
	for _, u := range uses {
		container.Resources.Claims = append(container.Resources.Claims, core.ResourceClaim{Name: u.claim, Request: u.request})
	}
	return &core.Pod{
		ObjectMeta: meta.ObjectMeta{Namespace: "n", Name: uid, UID: types.UID(uid)},
		Spec:       core.PodSpec{ResourceClaims: claims, Containers: []core.Container{container, {Name: "other", Image: "i"}}},
	}
}

func named(names ...string) []core.PodResourceClaim {
	var out []core.PodResourceClaim
	for _, name := range names {
		out = append(out, core.PodResourceClaim{Name: "my-" + name, ResourceClaimName: &name})
	}
	return out
}

func fromTemplate(name string) []core.PodResourceClaim {
	template := "template"
	return []core.PodResourceClaim{{Name: name, ResourceClaimTemplateName: &template}}
}

func withStatus(pod *core.Pod, name string, claim *string) *core.Pod {
	pod.Status.ResourceClaimStatuses = append(pod.Status.ResourceClaimStatuses, core.PodResourceClaimStatus{Name: name, ResourceClaimName: claim})
	return pod
}

func device(request, cdi string) Device {
	return Device{Requests: []string{request}, Pool: "pool", Device: "dev-" + request, CDI: []string{cdi}}
}

// good prepares and unprepares the claims with these ids.
func good(name string, uids ...string) *Driver {
	out := &Driver{Name: name, Versions: []string{"v1.DRAPlugin"}, Prepare: map[string]Answer{}, Unprepare: map[string]Answer{}}
	for _, uid := range uids {
		out.Prepare[uid] = Answer{Devices: []Device{device("r", "v/c="+uid)}}
		out.Unprepare[uid] = Answer{}
	}
	return out
}

func register(driver *Driver) Step { return Step{Op: "register", Driver: driver} }
func becomes(driver *Driver) Step  { return Step{Op: "driver", Driver: driver} }
func put(c *resource.ResourceClaim) Step {
	return Step{Op: "claim", Claim: c}
}
func on(op string, pod *core.Pod) Step { return Step{Op: op, Pod: pod, Container: "c"} }

func in(op string, pod *core.Pod, container string) Step {
	return Step{Op: op, Pod: pod, Container: container}
}

func report(driver string, all ...Reported) Step {
	return Step{Op: "report", Driver: &Driver{Name: driver}, Report: all}
}

func withContainers(pod *core.Pod) *core.Pod {
	pod.Status.ContainerStatuses = []core.ContainerStatus{{Name: "c"}}
	return pod
}

func extended(pod *core.Pod, claim string) *core.Pod {
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].Resources.Requests = core.ResourceList{"example.com/gpu": quantity.MustParse("1"), "cpu": quantity.MustParse("1")}
	}
	pod.Status.ExtendedResourceClaimStatus = &core.PodExtendedResourceClaimStatus{ResourceClaimName: claim, RequestMappings: []core.ContainerExtendedResourceRequest{
		{ContainerName: "c", ResourceName: "example.com/gpu", RequestName: "r"},
		{ContainerName: "c", ResourceName: "example.com/none", RequestName: "s"},
	}}
	return pod
}

func told() []Story {
	p, q := pod("p", named("a"), use{"my-a", ""}), pod("q", named("a"), use{"my-a", "r"})
	a, unnamed := "a", core.PodResourceClaim{Name: "odd\t"}
	both := []string{"p", "q"}
	share := "share"
	grouped := withStatus(pod("p", fromTemplate("t"), use{"t", ""}), "t", &a)
	group := "g"
	grouped.Spec.SchedulingGroup = &core.PodSchedulingGroup{PodGroupName: &group}
	forGroup := claim("a", "ua", nil, result("r", "d"))
	forGroup.Status.ReservedFor = []resource.ResourceClaimConsumerReference{{APIGroup: "scheduling.k8s.io", Resource: "podgroups", Name: "g", UID: "ug"}}
	return []Story{
		{Name: "one claim", Steps: []Step{
			register(good("d", "ua")), put(claim("a", "ua", both, result("r", "d"))), on("prepare", p), on("resources", p), on("resources", q),
			on("infos", p), in("infos", p, "other"), in("resources", p, "other"), on("prepare", p), on("resources", pod("p", named("a"), use{"my-a", "x"}, use{"my-a", "r"})),
			on("unprepare", p), on("unprepare", p), on("resources", p), on("infos", p),
		}},
		{Name: "no claims", Steps: []Step{on("prepare", pod("p", nil)), on("resources", pod("p", nil)), on("unprepare", pod("p", nil))}},
		{Name: "shared", Steps: []Step{
			register(good("d", "ua")), put(claim("a", "ua", both, result("r", "d"))), on("prepare", p), on("prepare", q), on("unprepare", p), on("unprepare", p), on("unprepare", q),
		}},
		{Name: "from a template", Steps: []Step{
			register(good("d", "ua")), on("prepare", pod("p", fromTemplate("t"), use{"t", ""})), on("unprepare", pod("p", fromTemplate("t"), use{"t", ""})),
			on("prepare", withStatus(pod("p", fromTemplate("t"), use{"t", ""}), "t", nil)), on("resources", withStatus(pod("p", fromTemplate("t"), use{"t", ""}), "t", nil)),
			put(claim("a", "ua", both, result("r", "d"))), on("prepare", grouped),
			put(owned(claim("a", "ua", both, result("r", "d")), "Pod", "v1", "p", "p")), on("prepare", withStatus(pod("p", fromTemplate("t"), use{"t", ""}), "t", &a)),
			on("resources", withStatus(pod("p", fromTemplate("t"), use{"t", ""}), "t", &a)), on("unprepare", pod("p", fromTemplate("t"))),
			on("prepare", pod("p", []core.PodResourceClaim{unnamed})), on("unprepare", pod("p", []core.PodResourceClaim{unnamed})),
		}},
		{Name: "not ready", Steps: []Step{
			on("prepare", p), put(claim("a", "ua", nil, result("r", "d"))), on("prepare", p), put(claim("a", "ua", both)), on("prepare", p),
			put(claim("a", "ua", both, result("r", "d"))), on("prepare", p), on("unprepare", p), put(claim("a", "ua", both, result("r", ""))), on("prepare", p),
		}},
		{Name: "versions", Steps: []Step{
			register(&Driver{Name: "d"}), register(&Driver{Name: "d", Versions: []string{"v1alpha4.Node", "1.0.0"}}),
			register(&Driver{Name: "d", Versions: []string{"x", "v1beta1.DRAPlugin", "v1.DRAPlugin"}, Prepare: good("d", "ua").Prepare, Unprepare: good("d", "ua").Unprepare}),
			register(good("d", "ua")), becomes(good("d", "ua")), put(claim("a", "ua", both, result("r", "d"))), on("prepare", p), on("unprepare", p),
			{Op: "gone", Driver: &Driver{Name: "d"}}, on("prepare", p), register(good("d", "ua")), on("prepare", p),
		}},
		{Name: "answers", Steps: []Step{
			put(claim("a", "ua", both, result("r", "d"))), register(&Driver{Name: "d", Versions: []string{"v1.DRAPlugin"}, Fails: "boom"}), on("prepare", p),
			becomes(&Driver{Name: "d", Prepare: map[string]Answer{"ua": {Error: "no such device"}}}), on("prepare", p),
			becomes(&Driver{Name: "d"}), on("prepare", p), becomes(good("d", "!ux")), on("prepare", p),
			becomes(&Driver{Name: "d", Prepare: map[string]Answer{"ua": {Devices: []Device{
				{Pool: "pool", Device: "x", CDI: []string{"v/c=1", "v/c=2"}, Share: &share}, {Requests: []string{"r", "s"}, Pool: "pool", Device: "y"},
				{Requests: []string{"s"}, Pool: "pool", Device: "z", CDI: []string{"v/c=<3>"}}}}}}), on("prepare", p),
			on("resources", p), on("resources", q), on("resources", pod("p", named("a"), use{"my-a", "s"})),
			becomes(&Driver{Name: "d", Fails: "boom"}), on("unprepare", p), on("prepare", q), on("prepare", p),
			becomes(&Driver{Name: "d", Unprepare: map[string]Answer{"ua": {Error: "busy"}}}), on("unprepare", p),
			becomes(&Driver{Name: "d"}), on("unprepare", p), becomes(good("d", "!ux")), on("unprepare", p), becomes(good("d", "ua")), on("unprepare", p),
		}},
		{Name: "made anew", Steps: []Step{
			register(good("d", "ua", "ub")), put(claim("a", "ua", both, result("r", "d"))), on("prepare", p), put(claim("a", "ub", both, result("r", "d"))), on("prepare", q), on("prepare", p),
		}},
		{Name: "restarted", Steps: []Step{
			register(good("d", "ua")), put(claim("a", "ua", both, result("r", "d"))), on("prepare", p), {Op: "restart"}, on("resources", p), on("prepare", p), on("unprepare", p),
			register(good("d", "ua")), on("prepare", p), on("resources", p), {Op: "restart"}, register(good("d", "ua")), on("unprepare", p),
		}},
		{Name: "prepared again", Steps: []Step{
			register(good("d", "ua")), put(claim("a", "ua", both, result("r", "d"))), on("prepare", p), {Op: "restart"}, register(good("d", "ua")), on("prepare", p), on("resources", p),
		}},
		{Name: "several", Steps: []Step{
			register(good("d", "ua", "ub")), register(good("e", "ub")), put(claim("a", "ua", both, result("r", "d"))), put(claim("b", "ub", both, result("r", "d"), result("s", "e"))),
			on("prepare", pod("p", named("a", "b"), use{"my-a", ""}, use{"my-b", ""})), on("resources", pod("p", named("a", "b"), use{"my-b", "r"})),
			on("infos", pod("p", named("a", "b"), use{"my-b", ""}, use{"my-a", ""})), on("unprepare", pod("p", named("a", "b"))),
		}},
		{Name: "twice in a pod", Steps: []Step{
			register(good("d", "ua")), put(claim("a", "ua", both, result("r", "d"))), on("prepare", pod("p", named("a", "a"))), on("unprepare", pod("p", named("a", "a"))),
		}},
		{Name: "extended resources", Steps: []Step{
			register(good("d", "ua", "ux")), put(claim("x", "ux", []string{"p"}, result("r", "d"))), put(claim("a", "ua", both, result("r", "d"))),
			on("prepare", extended(pod("p", named("a"), use{"my-a", ""}), "x")), on("resources", extended(pod("p", named("a")), "x")), in("resources", extended(pod("p", nil), "x"), "other"),
			on("infos", extended(pod("p", nil), "x")), in("infos", extended(pod("p", nil), "x"), "other"), on("infos", extended(pod("p", nil), "gone")), on("unprepare", extended(pod("p", nil), "x")),
			on("resources", extended(pod("p", nil), "x")),
		}},
		{Name: "left behind", Steps: []Step{
			register(good("d", "ua", "ub")), put(claim("a", "ua", both, result("r", "d"))), put(claim("b", "ub", both, result("r", "d"))), on("prepare", p), on("prepare", pod("q", named("a", "b"))),
			{Op: "reconcile", Active: []string{"p", "q"}}, becomes(&Driver{Name: "d", Fails: "boom"}), {Op: "reconcile", Active: []string{"p"}}, becomes(good("d", "ua", "ub")),
			{Op: "reconcile", Active: []string{"p"}}, {Op: "reconcile", Active: []string{"p"}}, {Op: "reconcile"},
		}},
		{Name: "operations refused", Steps: []Step{
			register(good("d", "ua")), put(claim("a", "ua", both, result("r", "d", "*"))), on("prepare", p),
			put(claim("a", "ua", both, result("r", "d", "*"), result("s", "d"))), on("prepare", p),
		}},
		{Name: "operations skipped", Gates: "DRAOptionalNodeOperations=true", Steps: []Step{
			put(claim("a", "ua", both, result("r", "d", "*"), result("s", "d", "NodePrepareResources", "NodeUnprepareResources"))), on("prepare", p), on("resources", p), on("unprepare", p),
			put(claim("a", "ua", both, result("r", "d", "NodePrepareResources"))), on("prepare", p), on("unprepare", p), register(good("d", "ua")), on("unprepare", p),
			put(claim("a", "ua", both, result("r", "d", "NodeUnprepareResources"), result("s", "d", "NodeUnprepareResources", "NodePrepareResources"))), on("prepare", p), on("unprepare", p),
			put(claim("a", "ua", both, result("r", "d", "*"), result("s", "e", "*"))), on("prepare", p), on("unprepare", p),
		}},
		{Name: "health", Steps: []Step{
			register(&Driver{Name: "d", Versions: []string{"v1.DRAPlugin"}, Prepare: map[string]Answer{"ua": {Devices: []Device{
				{Requests: []string{"r"}, Pool: "pool", Device: "x", CDI: []string{"v/c=1", "v/c=2"}}, {Requests: []string{"r"}, Pool: "pool", Device: "y"},
				{Requests: []string{"s"}, Pool: "pool", Device: "z", CDI: []string{"v/c=1"}}}}}}),
			put(claim("a", "ua", both, result("r", "d"))), on("status", withContainers(pod("p", named("a"), use{"my-a", "r"}))), on("prepare", p),
			on("status", withContainers(pod("p", named("a"), use{"my-a", "r"}))), report("d", Reported{"pool", "x", "UNHEALTHY", 0, "hot"}, Reported{"pool", "y", "HEALTHY", 60, ""}, Reported{"pool", "other", "HEALTHY", -1, ""}),
			on("status", withContainers(pod("p", named("a"), use{"my-a", "r/part"}, use{"my-a", "s"}, use{"my-a", "none"}))), on("status", withContainers(pod("p", named("a"), use{"my-a", ""}))),
			report("d", Reported{"pool", "x", "UNHEALTHY", 0, "hot"}, Reported{"pool", "y", "UNKNOWN", 60, ""}), report("d", Reported{"pool", "other", "UNHEALTHY", 5, ""}), report("d", Reported{"pool", "x", "UNHEALTHY", 0, strings.Repeat("m", 1025)}),
			on("status", withContainers(pod("p", named("a")))), on("status", withContainers(pod("p", named("a"), use{"my-a", "r"}, use{"gone", ""}))), {Op: "silent", Driver: &Driver{Name: "d"}}, on("status", withContainers(pod("p", named("a"), use{"my-a", "r"}))),
		}},
		{Name: "groups", Gates: "GenericWorkload=true,DRAWorkloadResourceClaims=true", Steps: []Step{
			register(good("d", "ua")), put(forGroup.DeepCopy()), on("prepare", grouped), put(owned(forGroup.DeepCopy(), "PodGroup", "scheduling.k8s.io/v1", "g", "ug")), on("prepare", grouped), on("unprepare", grouped),
			put(owned(claim("a", "ua", nil, result("r", "d")), "PodGroup", "scheduling.k8s.io/v1", "g", "ug")), on("prepare", grouped),
		}},
		{Name: "groups refused", Steps: []Step{
			register(good("d", "ua")), put(owned(forGroup.DeepCopy(), "PodGroup", "scheduling.k8s.io/v1", "g", "ug")), on("prepare", grouped), put(forGroup.DeepCopy()), on("prepare", pod("p", named("a"))),
		}},
	}
}
