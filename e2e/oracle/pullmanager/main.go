// Records what upstream's kubelet remembers about pulled images: who may use one, and the files that it keeps.
//
//	go run ./pullmanager ../../kubelet/src/image/pullmanager/testdata
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	_ "unsafe"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
	config "k8s.io/kubernetes/pkg/kubelet/apis/config"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/images/pullmanager"
)

//go:linkname trim k8s.io/kubernetes/pkg/kubelet/images/pullmanager.trimImageTagDigest
func trim(image string) (string, error)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func write(path string, fill func(out *json.Encoder)) {
	file, err := os.Create(path)
	must(err)
	buffer := bufio.NewWriter(file)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	fill(encoder)
	must(buffer.Flush())
	must(file.Close())
}

type name struct {
	Image   string `json:"image"`
	Name    string `json:"name,omitempty"`
	Error   string `json:"error,omitempty"`
	Pattern string `json:"pattern,omitempty"`
}

func names(out *json.Encoder) {
	hex := strings.Repeat("0123456789abcdef", 8)
	list := []string{
		"", " ", "a", "A", "busybox", "busybox:1", "busybox:", ":1", "busybox:1:2", "a/b/c:tag", "Reg.io/a", "reg.io/A", "reg.io:5000/a:t",
		"reg.io:5000", "reg.io:x/a", "[::1]:80/a:1", "[::1]/a", "[g]/a", "localhost/a", "-a/b", "a-/b", "a--b", "a__b", "a___b", "a..b", "a._b", "a_b/c",
		"a_b.c/d", "a//b", "/a", "a/", "reg.io/*", "*", "/*", "a/*", "a/b*", "*.io/*", " a/*", "a/* ", "a:1/*", "a@sha256:x", "é", "a/é",
		"a@sha256:" + hex[:64], "a:1@sha256:" + hex[:64], "a@sha256:" + hex[:63], "a@sha256:" + hex[:65], "a@sha512:" + hex, "a@sha384:" + hex[:96],
		"a@sha384:" + hex, "a@md5:" + hex[:32], "a@sha256:" + strings.ToUpper(hex[:64]), "a@SHA256:" + hex[:64], "a@x-y+z:" + hex[:32], "a@x--y:" + hex[:40],
		hex[:64], "a/" + hex[:64], "a:" + strings.Repeat("t", 128), "a:" + strings.Repeat("t", 129), "a:.t", "a:-t", "a:_t", "a:t.-_",
		strings.Repeat("a", 255), strings.Repeat("a", 256), "reg.io/" + strings.Repeat("a", 255), "reg.io/" + strings.Repeat("a", 256), "x_y/" + strings.Repeat("a", 252),
	}
	for _, image := range list {
		n := name{Image: image}
		found, err := trim(image)
		if err != nil {
			n.Error = err.Error()
		} else {
			n.Name = found
		}
		if err := pullmanager.ValidateAllowlistImagesPatterns([]string{image}); err != nil {
			n.Pattern = err.Error()
		}
		must(out.Encode(n))
	}
}

type secret struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Data string `json:"data"`
}

type credential struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Secret   string `json:"secret"`
	Hash     string `json:"hash"`
}

type lookup struct {
	Secrets []secret     `json:"secrets"`
	Image   string       `json:"image"`
	Found   []credential `json:"found,omitempty"`
	Failed  bool         `json:"failed,omitempty"`
}

func place(server string) string {
	text := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://") + "/"
	text = strings.NewReplacer("/v1/", "/", "/v2/", "/").Replace(text)
	return strings.TrimRight(text, "/")
}

func lookups(out *json.Encoder) {
	random := rand.New(rand.NewSource(7))
	servers := []string{
		"reg.io", "https://reg.io/v1/", "http://reg.io/v2/", "reg.io/team", "reg.io/team/app", "reg.io/v1/team", "*.reg.io", "a*.reg.io", "*.*", "*.io/team",
		"reg.io:5000", "index.docker.io", "https://index.docker.io/v1/", "docker.io", "docker.io/library", "[::1]:80", "a?.reg.io", "[ab]b.reg.io", "reg.io/", "https://reg.io/v1", "%zz",
	}
	images := []string{
		"reg.io/team/app", "reg.io/x", "reg.io/teamwork", "ab.reg.io/x", "bb.reg.io/team", "reg.io:5000/x", "docker.io/library/busybox", "docker.io/a/b", "quay.io/team/x",
	}
	entry := func(n int) string {
		user, password := fmt.Sprintf("user%d", n), []string{"p", "<&>", "a\"\\b", "é\u2028\x01", "x:y", ""}[random.Intn(6)]
		quoted := func(text string) string { raw, err := json.Marshal(text); must(err); return string(raw) }
		switch random.Intn(12) {
		case 0, 1:
			return fmt.Sprintf(`{"username":%s,"password":%s,"email":"a@b"}`, quoted(user), quoted(password))
		case 2, 3:
			return fmt.Sprintf(`{"auth":%q}`, base64.RawStdEncoding.EncodeToString([]byte(user+":"+password)))
		case 4:
			return `{"identitytoken":"t"}`
		case 5:
			return fmt.Sprintf(`{"auth":%q,"username":"other","email":"e"}`, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
		case 6:
			if random.Intn(4) == 0 {
				return []string{`{"auth":"!"}`, `{"auth":"bm9jb2xvbg=="}`, `{"username":1}`, `{"auth":"YQ"}`, `7`}[random.Intn(5)]
			}
		}
		return fmt.Sprintf(`{"username":%s,"password":%s}`, quoted(user), quoted(password))
	}
	for range 400 {
		l := lookup{Image: images[random.Intn(len(images))]}
		var given []v1.Secret
		for n := range 1 + random.Intn(3) {
			chosen := map[string]bool{}
			var entries []string
			for range random.Intn(5) {
				server := servers[random.Intn(len(servers))]
				// Upstream takes those that mean the same in any order.
				if place := place(server); !chosen[place] {
					chosen[place] = true
					entries = append(entries, fmt.Sprintf("%q:%s", server, entry(random.Intn(9))))
				}
			}
			auths := "{" + strings.Join(entries, ",") + "}"
			s := secret{Name: fmt.Sprintf("s%d", n), Type: string(v1.SecretTypeDockerConfigJson), Data: `{"auths":` + auths + "}"}
			key := v1.DockerConfigJsonKey
			switch random.Intn(20) {
			case 0, 1:
				s.Type, s.Data, key = string(v1.SecretTypeDockercfg), auths, v1.DockerConfigKey
			case 2:
				s.Type = "Opaque"
			case 3:
				s.Data = []string{"", "{", "[]", "null", `{"auths":null}`, `{"auths":[]}`}[random.Intn(6)]
			}
			l.Secrets = append(l.Secrets, s)
			given = append(given, v1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: "n", UID: types.UID("uid-" + s.Name)},
				Type:       v1.SecretType(s.Type), Data: map[string][]byte{key: []byte(s.Data)},
			})
		}
		ring, err := secrets.MakeDockerKeyring(given, credentialprovider.UnionDockerKeyring{})
		if err != nil {
			l.Failed = true
		} else {
			found, _ := ring.Lookup(l.Image)
			for _, f := range found {
				l.Found = append(l.Found, credential{f.Username, f.Password, f.Source.Secret.Name, f.AuthConfigHash})
			}
		}
		must(out.Encode(l))
	}
}

type present struct {
	ID      string   `json:"id"`
	Tags    []string `json:"tags"`
	Digests []string `json:"digests"`
}

type step struct {
	Op      string                          `json:"op"`
	Image   string                          `json:"image,omitempty"`
	Ref     string                          `json:"ref,omitempty"`
	Secrets []config.ImagePullSecret        `json:"secrets,omitempty"`
	Account *config.ImagePullServiceAccount `json:"account,omitempty"`
	// For everybody on the node.
	Node    bool      `json:"node,omitempty"`
	Images  []string  `json:"images,omitempty"`
	Present []present `json:"present,omitempty"`
	// File that somebody wrote or damaged.
	File    string             `json:"file,omitempty"`
	Content string             `json:"content,omitempty"`
	Must    *bool              `json:"must,omitempty"`
	Error   string             `json:"error,omitempty"`
	Changed map[string]*string `json:"changed,omitempty"`
}

type story struct {
	Policy string   `json:"policy"`
	Allow  []string `json:"allow,omitempty"`
	Steps  []step   `json:"steps"`
}

type lister struct {
	kubecontainer.ImageService
	images []kubecontainer.Image
}

func (l *lister) ListImages(context.Context) ([]kubecontainer.Image, error) { return l.images, nil }

var updated = regexp.MustCompile(`"lastUpdatedTime":"[^"]*"`)

func files(root string) map[string]string {
	out := map[string]string{}
	must(filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		must(err)
		if !info.IsDir() {
			raw, err := os.ReadFile(path)
			must(err)
			short, err := filepath.Rel(root, path)
			must(err)
			out[short] = updated.ReplaceAllString(string(raw), `"lastUpdatedTime":"T"`)
		}
		return nil
	}))
	return out
}

var images = []string{"busybox", "busybox:1", "reg.io/team/app:v1", "reg.io/team/app:v2", "reg.io/other", "reg.io/team/app@sha256:" + strings.Repeat("ab", 32), "Bad"}
var refs = []string{"sha256:1", "sha256:2", "sha256:3"}

func pullSecret(random *rand.Rand) config.ImagePullSecret {
	n := random.Intn(4)
	return config.ImagePullSecret{
		UID: fmt.Sprintf("u%d", n), Namespace: []string{"n", "m"}[n%2], Name: fmt.Sprintf("s%d", n/2), CredentialHash: []string{"h1", "h2", "h3", ""}[random.Intn(4)],
	}
}

func account(random *rand.Rand) *config.ImagePullServiceAccount {
	n := random.Intn(3)
	return &config.ImagePullServiceAccount{UID: fmt.Sprintf("a%d", n), Namespace: "n", Name: fmt.Sprintf("sa%d", n)}
}

func (s *story) tell(random *rand.Rand) {
	root, err := os.MkdirTemp("", "pullmanager")
	must(err)
	defer os.RemoveAll(root)
	ctx := klog.NewContext(context.Background(), logr.Discard())
	logger := logr.Discard()
	policy, err := pullmanager.NewImagePullCredentialVerificationPolicy(config.ImagePullCredentialsVerificationPolicy(s.Policy), s.Allow)
	must(err)
	service := &lister{}
	open := func() *pullmanager.PullManager {
		records, err := pullmanager.NewFSPullRecordsAccessor(logger, root)
		must(err)
		manager, err := pullmanager.NewImagePullManager(ctx, records, policy, service, 3)
		must(err)
		return manager
	}
	manager := open()
	base := filepath.Join(root, "image_manager")
	before := files(base)
	for range 25 {
		next := step{Image: images[random.Intn(len(images))], Ref: refs[random.Intn(len(refs))]}
		switch random.Intn(14) {
		case 0, 1, 2:
			next.Op = "intend"
			if err := manager.RecordPullIntent(logger, next.Image); err != nil {
				next.Error = err.Error()
			}
		case 3, 4, 5, 6:
			next.Op = "pulled"
			credentials := &config.ImagePullCredentials{}
			switch random.Intn(5) {
			case 0:
				next.Node, credentials.NodePodsAccessible = true, true
			case 1:
				next.Account = account(random)
				credentials.KubernetesServiceAccounts = []config.ImagePullServiceAccount{*next.Account}
			default:
				next.Secrets = []config.ImagePullSecret{pullSecret(random)}
				credentials.KubernetesSecrets = next.Secrets
			}
			manager.RecordImagePulled(ctx, next.Image, next.Ref, credentials)
		case 7:
			next.Op = "failed"
			manager.RecordImagePullFailed(ctx, next.Image)
		case 8:
			if random.Intn(2) == 0 {
				continue
			}
			next = step{Op: "prune", Images: []string{refs[random.Intn(len(refs))], refs[random.Intn(len(refs))]}}
			manager.PruneUnknownRecords(ctx, next.Images, time.Now().Add(time.Hour))
		case 9:
			next = step{Op: "restart"}
			service.images = nil
			for _, ref := range refs {
				p := present{ID: ref, Tags: []string{images[random.Intn(len(images))]}, Digests: []string{images[random.Intn(len(images))]}}
				next.Present = append(next.Present, p)
				service.images = append(service.images, kubecontainer.Image{ID: p.ID, RepoTags: p.Tags, RepoDigests: p.Digests})
			}
			if random.Intn(3) == 0 {
				next.File, next.Content = "pulling/sha256-zz.tmp", "{"
				must(os.WriteFile(filepath.Join(base, next.File), []byte(next.Content), 0o600))
			} else if len(before) > 0 && random.Intn(3) == 0 {
				for file, content := range before {
					if next.File == "" || file < next.File {
						next.File, next.Content = file, content
					}
				}
				next.Content = strings.ReplaceAll(next.Content, `"T"`, `"2026-01-02T03:04:05Z"`)
				switch random.Intn(3) {
				case 0:
					next.Content = strings.ReplaceAll(next.Content, "v1beta1", "v1alpha1")
				case 1:
					next.Content = strings.ReplaceAll(next.Content, `"kind"`, `"bogus":1,"kind"`)
				case 2:
					next.Content = strings.ReplaceAll(next.Content, `sha256:`, `sha256:9`)
				}
				must(os.WriteFile(filepath.Join(base, next.File), []byte(next.Content), 0o600))
			}
			manager = open()
		default:
			next.Op = "must"
			for range random.Intn(3) {
				next.Secrets = append(next.Secrets, pullSecret(random))
			}
			if random.Intn(3) == 0 {
				next.Account = account(random)
			}
			required, err := manager.MustAttemptImagePull(ctx, next.Image, next.Ref, func() ([]config.ImagePullSecret, *config.ImagePullServiceAccount, error) {
				return next.Secrets, next.Account, nil
			})
			must(err)
			next.Must = &required
		}
		now := files(base)
		next.Changed = map[string]*string{}
		for file, content := range now {
			if old, known := before[file]; !known || old != content {
				next.Changed[file] = &content
			}
		}
		for file := range before {
			if _, there := now[file]; !there {
				next.Changed[file] = nil
			}
		}
		before = now
		s.Steps = append(s.Steps, next)
	}
}

func main() {
	dir := os.Args[1]
	write(filepath.Join(dir, "names.jsonl"), names)
	write(filepath.Join(dir, "lookups.jsonl"), lookups)
	write(filepath.Join(dir, "stories.jsonl"), func(out *json.Encoder) {
		random := rand.New(rand.NewSource(3))
		for n := range 60 {
			s := story{Policy: []string{"NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"}[n%5]}
			if s.Policy == "NeverVerifyAllowlistedImages" {
				s.Allow = [][]string{{"busybox"}, {"reg.io/team/*"}, {"reg.io/other", "reg.io/t/*"}}[random.Intn(3)]
			}
			s.tell(random)
			must(out.Encode(s))
		}
	})
}
