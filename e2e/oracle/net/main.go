// How upstream reads addresses and networks: `net N` writes N generated texts, each with the address
// (ParseIPSloppy) and the network (ParseCIDRSloppy) that it is, `-` where it is none.
package main

import (
	"bufio"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"

	netutils "k8s.io/utils/net"
)

var parts = []string{"0", "00", "1", "010", "08", "9", "0000000000000010", "255", "256", "16777216", "", " 1", "+1", "-1", "a", "0x1", "ff", "FF", "10", "192", "168"}
var groups = []string{"0", "0000", "00000", "1", "ffff", "FFFF", "fffff", "db8", "2001", "g", "", "%eth0", "1.2.3.4", "01.2.3.4", "1.2.3"}
var lengths = []string{"0", "00", "8", "08", "16", "24", "31", "32", "33", "64", "120", "127", "128", "129", "", "+8", "-1", "8 ", "16777215", "16777216", "99999999999"}

func join(r *rand.Rand, from []string, least, most int, by string) string {
	var out []string
	for range least + r.Intn(most-least+1) {
		out = append(out, from[r.Intn(len(from))])
	}
	return strings.Join(out, by)
}

func address(r *rand.Rand) string {
	switch r.Intn(6) {
	case 0:
		return join(r, parts, 3, 5, ".")
	case 1:
		return join(r, parts[:9], 4, 4, ".")
	case 2:
		return join(r, groups, 1, 9, ":")
	case 3:
		return join(r, groups[:9], 8, 8, ":")
	case 4:
		return join(r, groups[:9], 0, 4, ":") + "::" + join(r, groups[:9], 0, 4, ":")
	default:
		return "::ffff:" + join(r, parts[:9], 4, 4, ".")
	}
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	r := rand.New(rand.NewSource(1))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for range count {
		text := address(r)
		if r.Intn(2) == 0 {
			text += "/" + lengths[r.Intn(len(lengths))]
		}
		ip, network := "-", "-"
		if read := netutils.ParseIPSloppy(text); read != nil {
			ip = read.String()
		}
		if at, read, err := netutils.ParseCIDRSloppy(text); err == nil {
			ones, _ := read.Mask.Size()
			network = fmt.Sprintf("%s %s %d", at, read.IP, ones)
		}
		fmt.Fprintf(out, "%s\t%s\t%s\n", text, ip, network)
	}
}
