package ring

// The mistakes that a core built with the tag mutants can be told to make. Each
// breaks one rule of the protocol; the simulator has to notice.
const (
	mutOrdAfterPromise = "accept ORD after the promise"
	mutNoTail          = "no tail"
	mutEarlyGarbage    = "garbage collection too early"
	mutReuseSeq        = "reuse a ring seq"
	mutNoSticky        = "no sticky break"
	mutCompareRep      = "compare ballots by seq and rep"
	mutPendKept        = "pend not closed in the old ring"
	mutPartialKept     = "partial message kept over a view change"
	mutNoLate          = "late install skipped"
	mutSmallestHolder  = "holder chosen as the smallest"
	mutTailUnfiltered  = "tail not filtered by what the holder delivered"
	mutEarlyReady      = "READY before the log is complete"
	mutNoCredit        = "credit ignored"
	mutEarlyReport     = "report before durable"
	mutRecoverAnywhere = "recover without position check"
	mutWrongState      = "states of a wrong ballot accepted"
)

// Mutants are the names of all mistakes. "late install skipped" is one of
// quality only: it makes members seem to leave and return that did not.
var Mutants = []string{
	mutOrdAfterPromise,
	mutNoTail,
	mutEarlyGarbage,
	mutReuseSeq,
	mutNoSticky,
	mutCompareRep,
	mutPendKept,
	mutPartialKept,
	mutNoLate,
	mutSmallestHolder,
	mutTailUnfiltered,
	mutEarlyReady,
	mutNoCredit,
	mutEarlyReport,
	mutRecoverAnywhere,
	mutWrongState,
}
