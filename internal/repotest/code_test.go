package repotest

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPureFilesAskNeitherClockNorChance(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || (!within(f.pkg, "raftstore/state") && filepath.Base(f.path) != "plan.go") || free(f.pkg) {
			continue
		}
		calls(f.ast, func(name string, pos token.Pos) {
			pkg, _, _ := strings.Cut(name, ".")
			if name == "time.Now" || name == "time.Since" || name == "time.After" || pkg == "rand" || pkg == "slog" {
				t.Errorf("%s:%d uses %s: a plan is a function of a view; take now from the caller", f.path, f.line(pos), name)
			}
		})
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s:%d starts a goroutine in pure code", f.path, f.line(g.Pos()))
			}
			return true
		})
	}
}

func TestNothingSleeps(t *testing.T) {
	for _, f := range goFiles(t) {
		// in a bubble, a sleep is virtual: it waits for all others to wait
		if f.test && slices.Contains(f.imports(t), "testing/synctest") {
			continue
		}
		excused := excusedLines(f)
		calls(f.ast, func(name string, pos token.Pos) {
			if name == "time.Sleep" && !excused[f.line(pos)] {
				t.Errorf("%s:%d sleeps: wait for a condition, or test in a synctest bubble", f.path, f.line(pos))
			}
		})
	}
}

// excusedLines are those with a comment that says that the sleep on it is
// virtual, in a helper that only bubbles call, or why it must be real.
func excusedLines(f file) map[int]bool {
	lines := map[int]bool{}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			virtual := f.test && (strings.Contains(c.Text, "virtual") || strings.Contains(c.Text, "bubble"))
			if virtual || strings.HasPrefix(c.Text, "//nolint:forbidigo // ") {
				lines[f.line(c.Pos())] = true
			}
		}
	}
	return lines
}

func TestOnlyTheCommandLinePrintsAndExits(t *testing.T) {
	for _, f := range goFiles(t) {
		program := f.ast.Name.Name == "main"
		if f.test {
			continue
		}
		calls(f.ast, func(name string, pos token.Pos) {
			switch {
			case name == "os.Exit" && !program:
				t.Errorf("%s:%d exits: only main does; return an error", f.path, f.line(pos))
			case strings.HasPrefix(name, "fmt.Print") && !program && !within(f.pkg, "cli"):
				t.Errorf("%s:%d prints: only cli does; log with slog", f.path, f.line(pos))
			}
		})
	}
}

func TestNoInitFunctions(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s:%d: init runs before main can decide anything; call it from New", f.path, f.line(fn.Pos()))
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		if f.ast.Doc != nil && strings.TrimSpace(f.ast.Doc.Text()) != "" {
			comments[f.pkg] = append(comments[f.pkg], f.path)
		} else if comments[f.pkg] == nil {
			comments[f.pkg] = []string{}
		}
	}
	for pkg, files := range comments {
		if len(files) != 1 {
			t.Errorf("package %s has its comment in %d files %q, want 1", pkg, len(files), files)
		}
	}
}

// wellKnown methods are explained by the interface they are of.
func wellKnown(method string) bool {
	return slices.Contains([]string{
		"Error", "String", "Unwrap", "Is", "Len", "Less", "Swap", "Read", "Write", "Close", "ServeHTTP",
		"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "Describe", "Collect",
	}, method)
}

func TestExportedNamesAreDocumented(t *testing.T) {
	files := goFiles(t)
	promised := interfaceMethods(files)
	for _, f := range files {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			for name, pos := range undocumented(d) {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil && promised[f.pkg+"."+name] {
					continue
				}
				t.Errorf("%s:%d: %s is exported and has no comment", f.path, f.line(pos), name)
			}
		}
	}
}

// interfaceMethods are the methods of interfaces, as "package.Method": what
// they do is told where the interface is.
func interfaceMethods(files []file) map[string]bool {
	methods := map[string]bool{}
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok {
				for _, m := range i.Methods.List {
					for _, name := range m.Names {
						methods[f.pkg+"."+name.Name] = true
					}
				}
			}
			return true
		})
	}
	return methods
}

func undocumented(d ast.Decl) map[string]token.Pos {
	missing := map[string]token.Pos{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && receiverExported(d) && !wellKnown(d.Name.Name) {
			missing[d.Name.Name] = d.Pos()
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if d.Doc == nil && s.Doc == nil && s.Comment == nil && s.Name.IsExported() {
					missing[s.Name.Name] = s.Pos()
				}
			case *ast.ValueSpec:
				if d.Doc == nil && s.Doc == nil && s.Comment == nil && s.Names[0].IsExported() {
					missing[s.Names[0].Name] = s.Pos()
				}
			}
		}
	}
	return missing
}

// receiverExported says whether a function is no method, or one of an
// exported type.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// Limits of length in lines, and the budget that nine in ten should keep.
const (
	fileLimit, fileBudget         = 500, 350
	functionLimit, functionBudget = 80, 40
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	files, longFiles, functions, longFunctions := 0, 0, 0, 0
	for _, f := range goFiles(t) {
		files++
		n := f.line(f.ast.FileEnd)
		if n > fileBudget {
			longFiles++
			t.Logf("%4d lines  %s", n, f.path)
		}
		if n > fileLimit {
			t.Errorf("%s has %d lines, more than %d: split it by what it is about", f.path, n, fileLimit)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			functions++
			n := f.line(fn.End()) - f.line(fn.Pos()) + 1
			if n > functionBudget {
				longFunctions++
				t.Logf("%4d lines  %s:%d %s", n, f.path, f.line(fn.Pos()), fn.Name.Name)
			}
			if n > functionLimit && !f.test {
				t.Errorf("%s:%d: %s has %d lines, more than %d", f.path, f.line(fn.Pos()), fn.Name.Name, n, functionLimit)
			}
		}
	}
	t.Logf("%d of %d files over %d lines, %d of %d functions over %d", longFiles, files, fileBudget, longFunctions, functions, functionBudget)
	if longFiles*10 > files {
		t.Errorf("%d of %d files have more than %d lines; nine in ten should have less", longFiles, files, fileBudget)
	}
}
