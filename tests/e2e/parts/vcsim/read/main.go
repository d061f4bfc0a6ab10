// read asks a vCenter once for the same fields as the guard, by govmomi, and prints VMs, seconds,
// and seconds of CPU time of all its threads.
package main

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
)

var fields = []string{
	"name", "parent", "config.uuid", "config.instanceUuid", "config.template", "runtime.powerState",
	"runtime.connectionState", "guest.toolsRunningStatus", "guest.ipAddress", "config.hardware.device",
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: read URL USER PASSWORD")
	}
	address, err := soap.ParseURL(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	address.User = url.UserPassword(os.Args[2], os.Args[3])
	ctx := context.Background()
	client, err := govmomi.NewClient(ctx, address, true)
	if err != nil {
		log.Fatal(err)
	}
	everything, err := view.NewManager(client.Client).CreateContainerView(
		ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		log.Fatal(err)
	}
	spent, started := cpu(), time.Now()
	var vms []mo.VirtualMachine
	if err := everything.Retrieve(ctx, []string{"VirtualMachine"}, fields, &vms); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(vms), time.Since(started).Seconds(), (cpu() - spent).Seconds())
}

func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
