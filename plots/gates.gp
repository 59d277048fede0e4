# SPDX-License-Identifier: Apache-2.0
#
# Gates: ratio of performance with its 95 % bounds against the margin, one row a gate.
#
# usage: gnuplot -d -c gates.gp DATA ROWS LOW HIGH
#
#   DATA   lines: "label" row ratio lower upper margin colour     (lower = upper = ratio: no interval)
#   ROWS   how many
#   LOW, HIGH   range of the axis
#
# Texts come from a data file and are never enhanced, so that they cannot be commands or markup.

rows = int(ARG2)
set terminal svg size 820, 70 + 26 * rows dynamic noenhanced font 'sans-serif,13'
if (ARG4 / ARG3 > 4) {
  set logscale x
  set xtics ()
  do for [e = -6 : 6] {
    do for [d in '1 2 5'] { v = d * 10.0**e; set xtics add (sprintf('%g', v) v) }
  }
}
set xrange [ARG3 + 0 : ARG4 + 0]
set yrange [rows - 0.4 : -0.6]
set xlabel 'performance of the arm / performance of its base (1 = parity)'
set xtics nomirror
set ytics nomirror scale 0
set grid x lt 1 lw 0.6 lc rgb 'gray'
set border 1
set key above right horizontal noenhanced
set arrow from 1, graph 0 to 1, graph 1 nohead lw 1.2 lc rgb 'gray'
plot ARG1 using 3:2:4:5:7:ytic(stringcolumn(1)) with xerrorbars pt 7 ps 0.8 lw 2 lc rgb variable notitle, \
     '' using 6:($2 - 0.38):(0):(0.76) with vectors nohead lw 3 lc rgb '#CC79A7' title 'margin', \
     NaN with lines lw 2 lc rgb 'gray' title 'ratio and 95 % bounds'
