// vcsim is VMware's own vCenter simulator with a certificate and a login of the test bed's choosing.
//
// It ends on SIGTERM, on SIGINT, and when its standard input closes: a test run that dies leaves no orphan.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	model := simulator.VPX()
	listen := flag.String("listen", "127.0.0.1:0", "host:port to listen on")
	cert := flag.String("cert", "", "PEM file of the serving certificate")
	key := flag.String("key", "", "PEM file of its key")
	user := flag.String("user", "", "the one user who may log in")
	password := flag.String("password", "", "that user's password")
	flag.IntVar(&model.Host, "hosts", model.Host, "standalone hosts")
	flag.IntVar(&model.Cluster, "clusters", model.Cluster, "clusters")
	flag.IntVar(&model.Machine, "vms", model.Machine, "virtual machines per host or resource pool")
	flag.Parse()
	if *user == "" || *password == "" {
		log.Fatal("-user and -password are needed: without them the simulator lets everyone in")
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	address := &url.URL{Host: *listen, User: url.UserPassword(*user, *password)}
	if err := serve(model, address, pair); err != nil {
		log.Fatal(err)
	}
}

// serve answers for the model's inventory until this process is told to end.
func serve(model *simulator.Model, address *url.URL, pair tls.Certificate) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ended <- syscall.SIGTERM
	}()

	if err := model.Create(); err != nil {
		return err
	}
	defer model.Remove() // its datastores are temporary folders
	model.Service.Listen = address
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server := model.Service.NewServer()
	fmt.Printf("ready https://%s%s\n", server.URL.Host, server.URL.Path)
	<-ended // and no server.Close(), which waits for clients that wait for updates
	return nil
}
