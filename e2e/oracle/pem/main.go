// Records what Go's encoding/pem finds in texts, for pkg/machinery/testdata/pem.in.
package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
)

var texts = []string{
	"",
	"x",
	"-----BEGIN A-----\nAAEC\n-----END A-----\n",
	"-----BEGIN A-----\nAAEC\n-----END A-----",
	"-----BEGIN A-----\r\nAAEC\r\n-----END A-----\r\n",
	"-----BEGIN A----- \nAAEC\t\n-----END A----- \t\n",
	"  -----BEGIN A-----\nAAEC\n-----END A-----\n",
	"text\n-----BEGIN A-----\nAAEC\n-----END A-----\nbetween\n-----BEGIN B C-----\nAA==\n-----END B C-----\nafter",
	"-----BEGIN A-----\nAAEC\n-----BEGIN B-----\nAAED\n-----END B-----\n",
	"-----BEGIN A-----\nAAEC\n-----END B-----\n-----BEGIN C-----\nAAED\n-----END C-----\n",
	"-----BEGIN A-----\nA*EC\n-----END A-----\n-----BEGIN C-----\nAAED\n-----END C-----\n",
	"-----BEGIN A-----\nK: v\n\nAAEC\n-----END A-----\n",
	"-----BEGIN A-----\nK: v\nL: w\nAAEC\n-----END A-----\n",
	"-----BEGIN A-----\nK: v\n-----END A-----\n",
	"-----BEGIN A-----\n-----END A-----\n",
	"-----BEGIN A-----\n\n-----END A-----\n",
	"-----BEGIN A-----\nAA EC\nAA\tEC\n-----END A-----\n",
	"-----BEGIN A-----\nAAEC\n-----END A-----x\n",
	"-----BEGIN A-----\nAAEC\n-----END A----\n",
	"-----BEGIN A---\nAAEC\n-----END A---\n",
	"-----BEGIN A-----\nAAEC -----BEGIN B-----\nAAEC\n-----END A-----\n",
	"-----BEGIN A-----\nAAEC",
	"-----END A-----\n-----BEGIN A-----\nAAEC\n-----END A-----\n",
	"-----BEGIN A-----\nAAEC\n-----END A-----\n-----END A-----\n-----BEGIN A-----\nAAED\n-----END A-----\n",
	"-----BEGIN A-----\nA\n-----END A-----\n",
	"-----BEGIN -----\nAAEC\n-----END -----\n",
}

func main() {
	fmt.Println("&[")
	for _, text := range texts {
		fmt.Printf("    (%q, &[", text)
		rest := []byte(text)
		for {
			var b *pem.Block
			b, rest = pem.Decode(rest)
			if b == nil {
				break
			}
			h := 0
			if len(b.Headers) > 0 {
				h = 1
			}
			fmt.Printf("%q,", fmt.Sprintf("%s %d %s", b.Type, h, base64.StdEncoding.EncodeToString(b.Bytes)))
		}
		fmt.Println("]),")
	}
	fmt.Println("]")
}
