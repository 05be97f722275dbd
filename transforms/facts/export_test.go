package facts

// ParseAVA is parseAVA.
func ParseAVA(line string) (id, name string, score float64, votes int64, reason string) {
	p, d := parseAVA(line)
	return p.id, p.name, p.score, p.votes, d.reason
}
