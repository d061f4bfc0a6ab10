// How Forklift finds a disk's PVC and reads vSphere's names, in the language that it is written in:
// what Python's regular expressions, blanks and escapes are held against. A question a line on standard input, an answer a line.
package main

import (
	"encoding/json"
	"log"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// The expression of vsphere/builder.go, backingFilePattern.
var snapshot = regexp.MustCompile(`-\d\d\d\d\d\d.vmdk`)

type claim struct {
	Name   string `json:"name"`
	Source string `json:"source"`
}

type question struct {
	Disks  []string `json:"disks"`
	Claims []claim  `json:"claims"`
	Names  []string `json:"names"`
}

type answer struct {
	// Trimmed are the disks' files as they are compared (vsphere/utils.go, trimBackingFileName).
	Trimmed []string `json:"trimmed"`
	// Left out are the claims that are counted, and then not looked at (kubevirt.go, hasDiskIdentity).
	LeftOut []bool `json:"leftOut"`
	// Found is each disk's claim by its place, or -1: the migration fails on such a disk
	// (vsphere/builder.go, mapDisks).
	Found []int `json:"found"`
	// Names are those that vSphere says, as the inventory has them.
	Names []string `json:"names"`
}

func trim(file string) string {
	return snapshot.ReplaceAllString(file, ".vmdk")
}

// The inventory leaves a name alone where it can't be read (container/vsphere/model.go).
func unescape(name string) string {
	if read, err := url.PathUnescape(name); err == nil {
		return read
	}
	return name
}

func ask(q question) answer {
	a := answer{Trimmed: []string{}, LeftOut: []bool{}, Found: []int{}, Names: []string{}}
	bySource := map[string]int{}
	for place, c := range q.Claims {
		out := strings.HasPrefix(c.Name, "prime-") || strings.TrimSpace(c.Source) == ""
		a.LeftOut = append(a.LeftOut, out)
		if !out {
			bySource[trim(c.Source)] = place
		}
	}
	for _, file := range q.Disks {
		trimmed := trim(file)
		a.Trimmed = append(a.Trimmed, trimmed)
		place, there := bySource[trimmed]
		if !there {
			place = -1
		}
		a.Found = append(a.Found, place)
	}
	for _, name := range q.Names {
		a.Names = append(a.Names, unescape(name))
	}
	return a
}

func main() {
	questions, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for questions.More() {
		var q question
		if err := questions.Decode(&q); err != nil {
			log.Fatal(err)
		}
		if err := answers.Encode(ask(q)); err != nil {
			log.Fatal(err)
		}
	}
}
