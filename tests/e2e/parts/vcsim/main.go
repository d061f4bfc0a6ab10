// vcsim is VMware's own vCenter simulator with a certificate and a login of the test bed's choosing.
//
// It ends on SIGTERM, on SIGINT, and when its standard input closes: a test run that dies leaves no orphan.
package main

import (
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
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
	copies := flag.Int("copies", 0, "further virtual machines, to be read only: creating 5,000 would take minutes")
	flag.Parse()
	if *user == "" || *password == "" {
		log.Fatal("-user and -password are needed: without them the simulator lets everyone in")
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	address := &url.URL{Host: *listen, User: url.UserPassword(*user, *password)}
	if err := serve(model, address, pair, *copies); err != nil {
		log.Fatal(err)
	}
}

// serve answers for the model's inventory until this process is told to end.
func serve(model *simulator.Model, address *url.URL, pair tls.Certificate, copies int) error {
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
	multiply(model, copies)
	model.Service.Listen = address
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server := model.Service.NewServer()
	server.Config.Handler = orderly(server.Config.Handler) // before anybody knows the address
	fmt.Printf("ready https://%s%s\n", server.URL.Host, server.URL.Path)
	<-ended // and no server.Close(), which waits for clients that wait for updates
	return nil
}

// session is what orderly knows of one.
type session struct {
	calls   sync.RWMutex // on their way: each shares it, and Logout has it alone
	waiting sync.Map     // collectors that were waited on
}

var collector = regexp.MustCompile(`<WaitForUpdatesEx.*?<_this type="PropertyCollector">([^<]+)<`)

const cancel = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><CancelWaitForUpdates xmlns="urn:vim25">` +
	`<_this type="PropertyCollector">%s</_this></CancelWaitForUpdates></Body></Envelope>`

// orderly ends the waits of a session before it logs out, and lets it log out when none of its calls is on its way.
// A vCenter does; of the simulator Logout takes the session's registry and then its views, WaitForUpdatesEx a view and
// then the registry. Where they met, both stood still for ever, and with them whoever wanted that view.
func orderly(next http.Handler) http.Handler {
	var sessions sync.Map // by cookie
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie(soap.SessionCookieName)
		if err != nil {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		known, _ := sessions.LoadOrStore(cookie.Value, new(session))
		own := known.(*session)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, []byte("<Logout")) {
			if found := collector.FindSubmatch(body); found != nil {
				own.waiting.Store(string(found[1]), nil)
			}
			own.calls.RLock()
			defer own.calls.RUnlock()
		} else if own.stopped(next, r) {
			own.calls.Lock()
			defer own.calls.Unlock()
			sessions.Delete(cookie.Value)
		}
		next.ServeHTTP(w, r)
	})
}

// stopped has cancelled the session's waits; false where it has ended already, and there is nothing to log out.
func (s *session) stopped(next http.Handler, logout *http.Request) bool {
	lives := true
	s.waiting.Range(func(id, _ any) bool {
		request := logout.Clone(logout.Context())
		request.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(cancel, id)))
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, request)
		lives = answer.Code == http.StatusOK
		return lives
	})
	return lives
}

// multiply adds copies of one virtual machine, each with a name, a moref, uuids and disks of its own.
func multiply(model *simulator.Model, copies int) {
	ctx := model.Service.Context
	if copies == 0 {
		return
	}
	source := ctx.Map.Any("VirtualMachine").(*simulator.VirtualMachine)
	folder := ctx.Map.Get(*source.Parent).(*simulator.Folder)
	for i := range copies {
		name := fmt.Sprintf("copy-%06d", i)
		vm := &simulator.VirtualMachine{VirtualMachine: source.VirtualMachine}
		vm.Self = types.ManagedObjectReference{Type: "VirtualMachine", Value: fmt.Sprintf("vm-9%06d", i)}
		vm.Name = name
		config := *source.Config
		config.Name = name
		config.Uuid = fmt.Sprintf("42000000-0000-4000-8000-%012d", i)
		config.InstanceUuid = fmt.Sprintf("50000000-0000-4000-8000-%012d", i)
		config.Hardware.Device = nil
		for _, device := range object.VirtualDeviceList(source.Config.Hardware.Device) {
			if disk, ok := device.(*types.VirtualDisk); ok {
				own := *disk
				backing := *disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
				backing.FileName = fmt.Sprintf("[LocalDS_0] %s/disk1.vmdk", name)
				own.Backing = &backing
				device = &own
			}
			config.Hardware.Device = append(config.Hardware.Device, device)
		}
		vm.Config = &config
		ctx.Map.PutEntity(folder, vm)
		folder.ChildEntity = append(folder.ChildEntity, vm.Self)
	}
}
