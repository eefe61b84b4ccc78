// Command cron prints what upstream's schedule parser makes of schedules.
//
// usage: cron. One line each: schedule, time zone of the machine, start in Unix seconds, and either the next five times
// ("-" where there is none) or "! " and the error; separated by tabs.
package main

import (
	"bufio"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"time"

	"k8s.io/kubernetes/pkg/util/parsers"
)

var malformed = []string{
	"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 7",
	"a * * * *", "1-a * * * *", "5-1 * * * *", "*/0 * * * *", "1/2/3 * * * *", "1-2-3 * * * *", "-1 * * * *",
	"99999999999999999999 * * * *", "@nope", "@every", "@every x", "@every 1", "TZ=0", "TZ=Nowhere/Land * * * * *",
	"TZ=europe/berlin 0 0 * * *", "CRON_TZ=../etc 0 0 * * *", "* * * * mon,tue,xyz", "+5 * * * *", "1_0 * * * *",
}

var fixed = []string{
	"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@every 90s", "@every 10ms",
	"@every 1h30m0.5s", "0 0 31 2 *", "0 0 29 2 *", "30 2 * * *", "30 1 * * *", "0 0 * * sun", "0 0 13 * fri",
	"0 0 * * 0", "? ? ? ? ?", "*/15 0-6/2 1,15 JAN-mar Mon-FRI", "5/20 * * * *", ", * * * *", "0 0 1 1 */2", "59 23 31 12 *",
	"TZ=Europe/Berlin 30 2 * * *", "CRON_TZ=America/Sao_Paulo 0 0 * * *", "TZ=UTC 0 12 * * *", "TZ= 0 12 * * *",
}

var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Tehran",
}

func field(r *rand.Rand, low, high int) string {
	number := func() int { return low + r.Intn(high-low+1) }
	switch r.Intn(6) {
	case 0:
		return fmt.Sprint(number())
	case 1:
		a, b := number(), number()
		return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
	case 2:
		return fmt.Sprintf("*/%d", 1+r.Intn(high))
	case 3:
		return fmt.Sprintf("%d,%d", number(), number())
	default:
		return "*"
	}
}

func print(out *bufio.Writer, spec, zone string, start int64) {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	time.Local = loc
	fmt.Fprintf(out, "%s\t%s\t%d\t", spec, zone, start)
	schedule, err := parsers.ParseCronScheduleWithPanicRecovery(spec)
	if err != nil {
		fmt.Fprintf(out, "! %s\n", err)
		return
	}
	at := time.Unix(start, 0)
	var all []string
	for range 5 {
		at = schedule.Next(at)
		if at.IsZero() {
			all = append(all, "-")
			break
		}
		all = append(all, fmt.Sprint(at.Unix()))
	}
	fmt.Fprintln(out, strings.Join(all, ","))
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	r := rand.New(rand.NewSource(5))
	for _, spec := range malformed {
		print(out, spec, "UTC", 1700000000)
	}
	// Shortly before changes of clocks, and anywhere.
	starts := []int64{1774742400, 1793491200, 1772956800, 1540000000, 1541300000, 1700000000}
	for _, spec := range fixed {
		for i, zone := range zones {
			print(out, spec, zone, starts[i%len(starts)])
		}
	}
	for i := range 300 {
		spec := strings.Join([]string{field(r, 0, 59), field(r, 0, 23), field(r, 1, 31), field(r, 1, 12), field(r, 0, 6)}, " ")
		start := int64(1500000000 + r.Intn(300000000))
		if i%2 == 0 {
			start = starts[r.Intn(len(starts))] - int64(r.Intn(200000))
		}
		print(out, spec, zones[r.Intn(len(zones))], start)
	}
}
