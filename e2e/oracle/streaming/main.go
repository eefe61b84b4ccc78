// Streaming is upstream's translation of WebSockets to SPDY, to compare with.
//
//	go run ./streaming frames    frames as spdystream writes them, in hex, a line each: those of a client, then a server's
//	go run ./streaming verdicts  what upstream's translator says on the error channel, per protocol and error message
//	go run ./streaming read      hex on standard input, read by spdystream's framer, a line per frame
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream/spdy"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream"
	streamspdy "k8s.io/streaming/pkg/httpstream/spdy"
)

func main() {
	switch os.Args[1] {
	case "frames":
		frames()
	case "verdicts":
		verdicts()
	case "read":
		read()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func frames() {
	header := func(kind string) http.Header { return http.Header{"Streamtype": {kind}} }
	sides := map[string][]spdy.Frame{
		"client": {
			&spdy.SynStreamFrame{StreamId: 1, Headers: header("error")},
			&spdy.SynStreamFrame{StreamId: 3, Headers: header("stdin")},
			&spdy.SynStreamFrame{StreamId: 5, Headers: http.Header{"Streamtype": {"data"}, "Port": {"80"}, "Requestid": {"0"}}},
			&spdy.DataFrame{StreamId: 3, Data: []byte("hello")},
			&spdy.DataFrame{StreamId: 3, Flags: spdy.DataFlagFin},
			&spdy.PingFrame{Id: 1},
			&spdy.RstStreamFrame{StreamId: 5, Status: spdy.Cancel},
			&spdy.GoAwayFrame{},
		},
		"server": {
			&spdy.SynReplyFrame{StreamId: 1, Headers: http.Header{}},
			&spdy.SynReplyFrame{StreamId: 3, Headers: http.Header{"A": {"b"}}},
			&spdy.DataFrame{StreamId: 5, Data: bytes.Repeat([]byte("x"), 300)},
			&spdy.PingFrame{Id: 2},
			&spdy.HeadersFrame{StreamId: 1, Headers: http.Header{"C": {"d"}}},
			&spdy.WindowUpdateFrame{StreamId: 1, DeltaWindowSize: 9},
			&spdy.SettingsFrame{FlagIdValues: []spdy.SettingsFlagIdValue{{Id: spdy.SettingsInitialWindowSize, Value: 7}}},
			&spdy.GoAwayFrame{LastGoodStreamId: 5},
		},
	}
	for _, side := range []string{"client", "server"} {
		var out bytes.Buffer
		framer, err := spdy.NewFramer(&out, &out)
		check(err)
		for _, frame := range sides[side] {
			check(framer.WriteFrame(frame))
			fmt.Println(side, hex.EncodeToString(out.Bytes()))
			out.Reset()
		}
	}
}

func read() {
	text, err := io.ReadAll(os.Stdin)
	check(err)
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	check(err)
	framer, err := spdy.NewFramer(io.Discard, bytes.NewReader(raw))
	check(err)
	for {
		frame, err := framer.ReadFrame()
		if err == io.EOF {
			return
		}
		check(err)
		fmt.Printf("%T %+v\n", frame, frame)
	}
}

// runtime is a server that speaks one protocol and ends every command with one message.
func runtime(protocol, message string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, err := httpstream.Handshake(req, w, []string{protocol})
		if err != nil {
			return
		}
		streams := make(chan httpstream.Stream, 5)
		conn := streamspdy.NewResponseUpgrader().UpgradeResponse(w, req, func(s httpstream.Stream, _ <-chan struct{}) error {
			streams <- s
			return nil
		})
		if conn == nil {
			return
		}
		defer conn.Close()
		var errorStream, stdout httpstream.Stream
		for errorStream == nil || stdout == nil {
			switch s := <-streams; s.Headers().Get("streamType") {
			case "error":
				errorStream = s
			case "stdout":
				stdout = s
			}
		}
		// Until the replies are sent.
		time.Sleep(50 * time.Millisecond)
		io.WriteString(errorStream, message)
		errorStream.Close()
		time.Sleep(50 * time.Millisecond)
		stdout.Close()
		<-conn.CloseChan()
	}))
}

type verdict struct {
	Protocol string `json:"protocol"`
	Message  string `json:"message"`
	Told     string `json:"told"`
}

func verdicts() {
	exit := func(details string) string {
		return `{"metadata":{},"status":"Failure","message":"m","reason":"NonZeroExitCode"` + details + `}`
	}
	cause := func(kind, code string) string {
		return exit(`,"details":{"causes":[{"reason":"` + kind + `","message":"` + code + `"}]}`)
	}
	messages := map[string][]string{
		"v4.channel.k8s.io": {
			"", `{"metadata":{},"status":"Success"}`, exit(""), exit(`,"details":{}`), cause("ExitCode", "3"), cause("ExitCode", "255"),
			cause("ExitCode", "256"), cause("ExitCode", "+1"), cause("ExitCode", ""), cause("Other", "3"),
			`{"metadata":{},"status":"Failure","message":"it broke","reason":"InternalError","code":500}`,
			`{"status":"Strange"}`, `{}`,
		},
		"v3.channel.k8s.io": {"", "it broke"},
		"v2.channel.k8s.io": {"", "it broke"},
		"channel.k8s.io":    {"", "it broke"},
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, protocol := range []string{"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"} {
		for _, message := range messages[protocol] {
			check(out.Encode(verdict{protocol, message, told(protocol, message)}))
		}
	}
}

// told is what the client of upstream's translator is told.
func told(protocol, message string) string {
	backend := runtime(protocol, message)
	defer backend.Close()
	location, err := url.Parse(backend.URL)
	check(err)
	front := httptest.NewServer(proxy.NewStreamTranslatorHandler(location, nil, 0, proxy.Options{Stdout: true}))
	defer front.Close()
	dialer := websocket.Dialer{Subprotocols: []string{"v5.channel.k8s.io"}}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(front.URL, "http"), nil)
	check(err)
	defer conn.Close()
	for {
		_, message, err := conn.ReadMessage()
		check(err)
		if message[0] == 3 {
			return string(message[1:])
		}
	}
}
