// load posts one body over TLS again and again, to a webhook or to an API server, and prints what came of it as
// JSON: how many answers, and how long the median and the slowest hundredth took.
//
// Its requests are written and its answers read by hand, so that it takes less than what it measures.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

var (
	address     = flag.String("url", "", "where to, such as https://127.0.0.1:8443/validate?timeout=5s")
	ca          = flag.String("ca", "", "file of the CA's certificate")
	body        = flag.String("body", "", "file of what to send")
	expect      = flag.String("expect", `"allowed":true`, "what each answer must have in it")
	connections = flag.Int("connections", 16, "how many at once")
	seconds     = flag.Float64("seconds", 3, "for how long")
	rate        = flag.Float64("rate", 0, "requests a second, of all together; 0: each as soon as it can")
	fresh       = flag.Bool("fresh", false, "a new TLS connection for each")
	header      = flag.String("header", "", "one more header, such as Authorization: Bearer x")
)

type client struct {
	host    string
	config  *tls.Config
	request []byte
	conn    *tls.Conn
	reader  *bufio.Reader
	buffer  []byte
}

func (c *client) connect() error {
	conn, err := tls.Dial("tcp", c.host, c.config)
	if err != nil {
		return err
	}
	c.conn, c.reader = conn, bufio.NewReader(conn)
	return nil
}

func (c *client) post() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	status, err := c.reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 20")) {
		return fmt.Errorf("%s", status)
	}
	length, chunked := 0, false
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		chunked = chunked || bytes.EqualFold(name, []byte("transfer-encoding"))
	}
	if length > len(c.buffer) {
		c.buffer = make([]byte, length)
	}
	answer := c.buffer[:length]
	if chunked { // as an API server answers
		if answer, err = io.ReadAll(httputil.NewChunkedReader(c.reader)); err == nil {
			_, err = c.reader.Discard(2)
		}
	} else {
		_, err = io.ReadFull(c.reader, answer)
	}
	if err != nil {
		return err
	}
	if !bytes.Contains(answer, []byte(*expect)) {
		return fmt.Errorf("the answer is %s", answer)
	}
	return nil
}

// run posts until `end`; where there is a rate, at each of its own times, and waiting counts.
func (c *client) run(begin, end time.Time, every time.Duration) (took []time.Duration, err error) {
	for at := begin; time.Now().Before(end); at = at.Add(every) {
		since := time.Now()
		if every > 0 {
			time.Sleep(time.Until(at))
			since = at
		}
		if *fresh {
			if err := c.connect(); err != nil {
				return nil, err
			}
		}
		if err := c.post(); err != nil {
			return nil, err
		}
		if *fresh {
			c.conn.Close()
		}
		took = append(took, time.Since(since))
	}
	return took, nil
}

func main() {
	flag.Parse()
	target, err := url.Parse(*address)
	if err != nil {
		log.Fatal(err)
	}
	content, err := os.ReadFile(*body)
	if err != nil {
		log.Fatal(err)
	}
	pem, err := os.ReadFile(*ca)
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-apiserver-admission\r\nContent-Length: %d\r\n"+
		"Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n",
		target.RequestURI(), target.Host, len(content))
	if *header != "" {
		head += *header + "\r\n"
	}
	every := time.Duration(0)
	if *rate > 0 {
		every = time.Duration(float64(*connections) / *rate * float64(time.Second))
	}
	clients := make([]*client, *connections)
	for i := range clients {
		config := &tls.Config{RootCAs: pool, ServerName: target.Hostname(), NextProtos: []string{"http/1.1"}}
		clients[i] = &client{host: target.Host, config: config, request: append([]byte(head+"\r\n"), content...)}
		if !*fresh {
			if err := clients[i].connect(); err != nil {
				log.Fatal(err)
			}
		}
	}
	var all []time.Duration
	var mutex sync.Mutex
	var group sync.WaitGroup
	begin := time.Now()
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	for i, one := range clients {
		group.Go(func() {
			took, err := one.run(begin.Add(every*time.Duration(i)/time.Duration(*connections)), end, every)
			if err != nil {
				log.Fatal(err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, took...)
		})
	}
	group.Wait()
	if len(all) == 0 {
		log.Fatal("no answer came in time")
	}
	slices.Sort(all)
	quantile := func(part float64) float64 { return all[int(part*float64(len(all)-1))].Seconds() }
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"answers": len(all), "seconds": time.Since(begin).Seconds(), "p50": quantile(0.5), "p99": quantile(0.99),
	})
}
