package format

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"shoal/overlay/check"
)

// WriteFindings prints what a host is like: what is not well first, each with
// what to do.
func WriteFindings(out io.Writer, found []check.Finding) error {
	tw := table(out)
	fmt.Fprintln(tw, "CHECK\tLEVEL\tDETAIL")
	var remedies []string
	for _, level := range []check.Level{check.Bad, check.Warn, check.OK} {
		for _, f := range found {
			if f.Level != level {
				continue
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Check, f.Level, f.Detail)
			if f.Remedy != "" {
				remedies = append(remedies, f.Check+": "+f.Remedy)
			}
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	writeRemedies(out, remedies)
	return nil
}

// WriteDiagnosis prints how the whole cluster is.
func WriteDiagnosis(out io.Writer, d check.Diagnosis) error {
	tw := table(out)
	fmt.Fprintln(tw, "NODE\tCHECKS\tCOMPARED\tDIFFERED\tCLOCK")
	for _, n := range d.Nodes {
		if !n.Reached {
			fmt.Fprintf(tw, "%s\tnot reached\t-\t-\t-\n", n.Name)
			continue
		}
		compared, differed := "-", "-"
		if n.Audited {
			compared, differed = fmt.Sprint(n.Compared), fmt.Sprint(len(n.Differences))
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%+dms\n", n.Name, n.Checks, compared, differed, n.Offset.Milliseconds())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if err := writePairs(out, d.Pairs); err != nil {
		return err
	}
	if len(d.Findings) == 0 {
		fmt.Fprintln(out, "\nAll is well.")
		return nil
	}
	fmt.Fprintln(out)
	tw = table(out)
	fmt.Fprintln(tw, "NODE\tCHECK\tLEVEL\tDETAIL")
	var remedies []string
	for _, f := range d.Findings {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", f.Node, f.Check, f.Level, f.Detail)
		if f.Remedy != "" {
			remedies = append(remedies, fmt.Sprintf("%s, %s: %s", f.Node, f.Check, f.Remedy))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	writeRemedies(out, remedies)
	return nil
}

func writePairs(out io.Writer, pairs []check.Pair) error {
	if len(pairs) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	tw := table(out)
	fmt.Fprintln(tw, "FROM\tTO\tTCP\tMTU\tMESH\tITS MTU")
	for _, p := range pairs {
		mesh, meshMTU := "-", "-"
		if p.HasMesh {
			mesh, meshMTU = took(p.MeshRTT), number(p.MeshMTU)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", p.From, p.To, took(p.RTT), number(p.MTU), mesh, meshMTU)
	}
	return tw.Flush()
}

func took(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1fms", d.Seconds()*1000)
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func writeRemedies(out io.Writer, remedies []string) {
	if len(remedies) > 0 {
		fmt.Fprintf(out, "\nWhat to do:\n  %s\n", strings.Join(remedies, "\n  "))
	}
}

func table(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 10, 1, 3, ' ', 0) }
