// How Forklift finds a disk's PVC, in the language that it is written in: what Python's regular
// expressions and blanks are held against. A question a line on standard input, an answer a line.
package main

import (
	"encoding/json"
	"log"
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
}

type answer struct {
	// Trimmed are the disks' files as they are compared (vsphere/utils.go, trimBackingFileName).
	Trimmed []string `json:"trimmed"`
	// Left out are the claims that are counted, and then not looked at (kubevirt.go, hasDiskIdentity).
	LeftOut []bool `json:"leftOut"`
	// Found is each disk's claim by its place, or -1: the migration fails on such a disk
	// (vsphere/builder.go, mapDisks).
	Found []int `json:"found"`
}

func trim(file string) string {
	return snapshot.ReplaceAllString(file, ".vmdk")
}

func ask(q question) answer {
	a := answer{Trimmed: []string{}, LeftOut: []bool{}, Found: []int{}}
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
