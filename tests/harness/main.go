// Harness drives the real Asynq, as a client, a worker and an inspector, on behalf of the tests, the demo and the
// benchmarks, which are written in Python. It takes its orders from flags and JSON lines and answers in JSON lines, so that
// everything Asynq sends to Redis is sent by Asynq's own code.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/hibiken/asynq"
)

// A command is one way to run the harness.
type command struct {
	name    string
	summary string
	run     func(args []string, in io.Reader, out io.Writer) error
}

var commands = []command{
	{"enqueue", "enqueue the tasks described on standard input, one JSON object per line", runEnqueue},
	{"serve", "run a worker whose handler does what the payloads say", runServe},
	{"inspect", "answer the Inspector operations named on standard input", runInspect},
	{"demo", "run a workload that leaves tasks in every state", runDemo},
	{"load", "produce and process many tasks and measure it", runLoad},
}

// errUsage marks a command line that the flag package has already complained about.
var errUsage = errors.New("bad command line")

func main() {
	os.Exit(dispatch(os.Args[1:]))
}

// dispatch runs the command that args name and returns the exit code: 0 done, 1 failed, 2 misused.
func dispatch(args []string) int {
	if len(args) == 0 {
		usage(os.Stderr)
		return 2
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		switch err := c.run(args[1:], os.Stdin, os.Stdout); {
		case err == nil || errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		default:
			fmt.Fprintf(os.Stderr, "harness %s: %v\n", c.name, err)
			return 1
		}
	}
	usage(os.Stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: harness COMMAND [FLAGS]    (harness COMMAND -h lists the flags)")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.summary)
	}
}

// newFlags returns an empty flag set for the command called name.
func newFlags(name string) *flag.FlagSet {
	return flag.NewFlagSet("harness "+name, flag.ContinueOnError)
}

// parseFlags parses args, which must be flags only.
func parseFlags(flags *flag.FlagSet, args []string) error {
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "%s: unexpected argument %q\n", flags.Name(), flags.Arg(0))
		return errUsage
	}
	return nil
}

// logLevelFlag registers the flag for what Asynq logs. The level is no flag.Value here, although Asynq made it one: its String
// method panics on the zero level, which the flag package asks for.
func logLevelFlag(flags *flag.FlagSet, level *asynq.LogLevel) {
	usage := fmt.Sprintf("least `LEVEL` that Asynq logs to standard error: debug, info, warn, error, fatal (default %v)", level)
	flags.Func("log-level", usage, level.Set)
}
