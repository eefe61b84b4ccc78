// Command flags prints upstream's five daemons' flag tables and the feature gates as tab-separated facts.
// It links upstream's command packages, so types, defaults, hidden and deprecated flags are exact; the help text
// (stdout of --help) is only used to learn which section a flag stands in. Run by run.sh.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	_ "k8s.io/component-base/logs/json/register"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	kubeletopts "k8s.io/kubernetes/cmd/kubelet/app/options"
)

func main() {
	out, binaries := os.Args[1], os.Args[2]
	daemons := map[string]*cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand(),
		"kube-controller-manager": kcm.NewControllerManagerCommand(),
		"kube-proxy":              proxy.NewProxyCommand(),
		"kube-scheduler":          scheduler.NewSchedulerCommand(),
		"kubelet":                 kubelet.NewKubeletCommand(context.Background()),
	}
	for name, cmd := range daemons {
		// Asking for help makes cobra merge the global flags, as execution does.
		cmd.SetOut(io.Discard)
		if err := cmd.Help(); err != nil {
			panic(err)
		}
		fs := cmd.Flags()
		if name == "kubelet" {
			fs = kubeletFlags()
		}
		// Linked into one program the daemons share Go's global flags; the real binary's help says which are its own.
		listed, err := exec.Command(filepath.Join(binaries, name), "--help").Output()
		if err != nil {
			panic(err)
		}
		write(filepath.Join(out, name+".txt"), table(name, fs, sections(string(listed))))
	}
	write(filepath.Join(out, "feature-gates.txt"), gates())
}

// kubeletFlags rebuilds the kubelet's private flag set as NewKubeletCommand does.
func kubeletFlags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	config, err := kubeletopts.NewKubeletConfiguration()
	if err != nil {
		panic(err)
	}
	kubeletopts.NewKubeletFlags().AddFlags(fs)
	kubeletopts.AddKubeletConfigFlags(fs, config)
	kubeletopts.AddGlobalFlags(fs)
	fs.BoolP("help", "h", false, "help for kubelet")
	return fs
}

// sections maps each flag that --help lists to "order:title" of its section.
func sections(help string) map[string]string {
	found := map[string]string{}
	title, order := "", 0
	for _, line := range strings.Split(help, "\n") {
		if strings.HasSuffix(line, " flags:") && !strings.HasPrefix(line, " ") {
			title = strings.TrimSuffix(line, " flags:")
			order++
			continue
		}
		rest := strings.TrimPrefix(line, "  ")
		if i := strings.Index(rest, "--"); i >= 0 && i <= 4 && rest != line {
			name := strings.FieldsFunc(rest[i+2:], func(r rune) bool { return r == ' ' || r == '[' })
			if len(name) > 0 {
				found[name[0]] = fmt.Sprintf("%02d:%s", order, title)
			}
		}
	}
	return found
}

func table(daemon string, fs *pflag.FlagSet, section map[string]string) string {
	var lines []string
	if fs.Lookup("help") == nil {
		fs.BoolP("help", "h", false, "help for "+daemon)
	}
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	fs.VisitAll(func(f *pflag.Flag) {
		if _, own := section[f.Name]; !own && !f.Hidden && f.Deprecated == "" {
			return
		}
		usageName, _ := pflag.UnquoteUsage(f)
		lines = append(lines, strings.Join([]string{
			f.Name, f.Shorthand, f.Value.Type(), strconv.Quote(f.DefValue), strconv.Quote(f.NoOptDefVal),
			strconv.FormatBool(f.Hidden), strconv.Quote(f.Deprecated), usageName, section[f.Name],
		}, "\t"))
	})
	sort.Strings(lines)
	return "# name shorthand type default no-option-default hidden deprecated value-name section\n" + strings.Join(lines, "\n") + "\n"
}

func gates() string {
	all := utilfeature.DefaultMutableFeatureGate.GetAllVersioned()
	needs := utilfeature.DefaultMutableFeatureGate.Dependencies()
	var lines []string
	for name, specs := range all {
		var versions []string
		for _, s := range specs {
			stage := string(s.PreRelease)
			if stage == "" {
				stage = "GA"
			}
			v := fmt.Sprintf("%s:%s:%t", s.Version, stage, s.Default)
			if s.LockToDefault {
				v += ":locked"
			}
			if s.MinCompatibilityVersion != nil {
				v += fmt.Sprintf(":compat=%s", s.MinCompatibilityVersion)
			}
			versions = append(versions, v)
		}
		var deps []string
		for _, d := range needs[name] {
			deps = append(deps, string(d))
		}
		sort.Strings(deps)
		lines = append(lines, string(name)+"\t"+strings.Join(versions, " ")+"\t"+strings.Join(deps, " "))
	}
	sort.Strings(lines)
	return "# name\tversion:stage:default[:locked][:compat=version] ...\tdependencies\n" + strings.Join(lines, "\n") + "\n"
}

func write(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		panic(err)
	}
}
