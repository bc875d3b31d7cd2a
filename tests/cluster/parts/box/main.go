// Command box is the program of the test pods: a server that sends its name, a client that reports
// the outcomes of connections, and the pause process of a pod's sandbox.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: box pause                     wait, to keep a pod's namespaces
       box serve PORT NAME           send NAME on every connection
       box connect ADDRESS:PORT...   connect to all at the same time, and print the outcomes

Outcomes: the name that the server sends, silent (it sends nothing), timeout, refused, unreachable,
prohibited (the code of ICMPv6).
`

// limit is longer than the neighbour discovery of the kernel (3.05 s), whose failure is not a timeout.
const limit = 4600 * time.Millisecond

func main() {
	arguments := append(os.Args, "", "", "")
	switch arguments[1] {
	case "pause":
		untilStopped()
	case "serve":
		serve(arguments[2], arguments[3])
	case "connect":
		connect(os.Args[2:])
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}

// untilStopped reaps orphaned processes, as the first process of a PID namespace must, until it is stopped.
func untilStopped() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for got := range signals {
		if got != syscall.SIGCHLD {
			return
		}
		for pid, err := 1, error(nil); pid > 0 && err == nil; {
			pid, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}

func serve(port, name string) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fmt.Fprintf(os.Stderr, "box: listen on port %s: %v\n", port, err)
		os.Exit(1)
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				fmt.Fprintf(os.Stderr, "box: accept: %v\n", err)
				os.Exit(1)
			}
			go greet(connection, name)
		}
	}()
	untilStopped()
}

func greet(connection net.Conn, name string) {
	defer connection.Close()
	fmt.Fprintln(connection, name)
}

func connect(targets []string) {
	lines := make([]chan string, len(targets))
	for at, target := range targets {
		lines[at] = make(chan string, 1)
		go func() { lines[at] <- target + " " + outcome(target) }()
	}
	for _, line := range lines {
		fmt.Println(<-line)
	}
}

func outcome(target string) string {
	connection, err := net.DialTimeout("tcp", target, limit)
	if err != nil {
		return failure(err)
	}
	defer connection.Close()
	if err := connection.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return failure(err)
	}
	greeting, err := io.ReadAll(connection)
	if err != nil || len(greeting) == 0 {
		return "silent"
	}
	return strings.TrimSpace(string(greeting))
}

func failure(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, syscall.EACCES):
		return "prohibited"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	default:
		return err.Error()
	}
}
