package allocator

// waits are the tasks that lack something, by what they wait for, in the order
// in which they came to wait.
type waits struct {
	of    map[string]string   // by task
	queue map[string][]string // tasks; those that of knows otherwise are not there
	alive map[string]int      // how many of a queue are
}

func newWaits() *waits {
	return &waits{of: map[string]string{}, queue: map[string][]string{}, alive: map[string]int{}}
}

// set says what a task waits for; "": nothing.
func (w *waits) set(task, key string) {
	old, waiting := w.of[task]
	if waiting && old == key {
		return
	}
	if waiting {
		w.alive[old]--
		delete(w.of, task)
		w.tidy(old)
	}
	if key != "" {
		w.of[task] = key
		w.queue[key] = append(w.queue[key], task)
		w.alive[key]++
	}
}

// pass takes the first n off a queue.
func (w *waits) pass(key string, n int) {
	w.queue[key] = w.queue[key][n:]
	w.tidy(key)
}

// tidy forgets those of a queue that wait no more once they are the larger part
// of it, so that each is paid for once.
func (w *waits) tidy(key string) {
	alive := w.alive[key]
	if alive == 0 {
		delete(w.queue, key)
		delete(w.alive, key)
		return
	}
	if len(w.queue[key]) < 2*alive+64 {
		return
	}
	queue := make([]string, 0, alive)
	for _, task := range w.queue[key] {
		if w.of[task] == key {
			queue = append(queue, task)
		}
	}
	w.queue[key] = queue
}
