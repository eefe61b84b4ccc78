// Records how upstream's kubelet shows the versions of runtimes: the text, a tab, and what its node's status says.
//
//	go run ./versions > ../../kubelet/src/node/testdata/versions.txt
package main

import (
	"fmt"
	"math/rand"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

func shown(text string) string {
	v, err := version.ParseSemantic(text)
	if err != nil {
		v, err = version.ParseGeneric(text)
	}
	if err != nil {
		return "Unknown"
	}
	return v.String()
}

func main() {
	all := []string{"1.6.20~ds1", "v2.0.0-rc.1", "1.30.2", "v1.7.2+unknown", "1.7.0-1.el9", "2", "", "abc", "1.02.3", "01.2.3", "1.2.3-01", "1.2.3-0a",
		"1.2.3-", "1.2.3+a.b", "1.2.3-a+b", " 1.2.3 ", "1.2.3.4", "1.2.3.4-rc", "99999999999999999999.1", "1.2.", "v1.28.0-dev", "1.2.3-a..b", "1.6.20-0ubuntu1~22.04.1", "1.0.0-00"}
	random := rand.New(rand.NewSource(1))
	parts := []string{"0", "1", "01", "20", ".", ".", ".", "-", "+", "rc", "v", "~", " "}
	for i := 0; i < 200; i++ {
		text := ""
		for j := 0; j < 1+random.Intn(9); j++ {
			text += parts[random.Intn(len(parts))]
		}
		all = append(all, text)
	}
	for _, text := range all {
		if !strings.ContainsAny(text, "\t\n") {
			fmt.Printf("%s\t%s\n", text, shown(text))
		}
	}
}
