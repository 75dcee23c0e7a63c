package lsh

// gramsGo sets dst[i] to what the gram that starts at byte i is ordered by.
func gramsGo(dst, words []uint32, first, second, third uint32) {
	x, y, z := words[:len(dst)], words[4:][:len(dst)], words[8:][:len(dst)]
	for i := range dst {
		dst[i] = (x[i]*first + y[i]*second + z[i]*third) &^ 31
	}
}

func lowerGo(dst, src []uint32, ahead uint32) {
	x, y := src[:len(dst)], src[ahead:][:len(dst)]
	for i := range dst {
		dst[i] = min(x[i], y[i]+ahead)
	}
}

func turnsGo(dst, least []uint32) int {
	n := 0
	next := least[1:][:len(dst)]
	for i, v := range least[:len(dst)] {
		dst[n] = uint32(i)
		var turn int
		if next[i]+1 != v {
			turn = 1
		}
		n += turn
	}
	return n
}
