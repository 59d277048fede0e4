# SPDX-License-Identifier: Apache-2.0
#
# Arms side by side: one row a metric, one dot an arm, a line from its smallest to its largest round.
#
# usage: gnuplot -d -c dots.gp DATA LABELS ROWS ARMS SCALE XLABEL LOW HIGH
#
#   DATA     one block for each arm, two empty lines between: "arm", then median row low high
#   LABELS   lines: row "label"
#   ROWS     how many labels
#   ARMS     the arms' numbers, "0 2 3": an arm has one colour and shape in every picture
#   SCALE    log or linear
#   XLABEL   quantity and unit
#   LOW, HIGH   range of the axis
#
# Texts come from data files and arguments and are never enhanced.

colours = '#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00 #8C6D1F #7F7F7F'
shapes = '7 5 9 13 11 6 4 8'
colour(i) = word(colours, int(word(ARG4, i + 1)) % words(colours) + 1)
shape(i) = int(word(shapes, int(word(ARG4, i + 1)) % words(shapes) + 1))

rows = int(ARG3)
arms = words(ARG4)
set terminal svg size 820, 100 + rows * (12 + 12 * arms) dynamic noenhanced font 'sans-serif,13'
if (ARG5 eq 'log') {
  set logscale x
  set mxtics 10
  if (ARG8 / ARG7 < 1000) {
    set xtics ()
    do for [e = -12 : 12] {
      do for [d in '1 2 5'] { v = d * 10.0**e; set xtics add (sprintf('%g', v) v) }
    }
  }
}
set xrange [ARG7 + 0 : ARG8 + 0]
set yrange [rows - 0.5 : -0.5]
set xlabel ARG6
set format x '%g'
set xtics nomirror
set ytics nomirror scale 0
set grid x lt 1 lw 0.6 lc rgb 'gray'
set border 1
set key above left horizontal noenhanced Left reverse samplen 1.5
do for [r = 1 : rows - 1] {
  set arrow from graph 0, first r - 0.5 to graph 1, first r - 0.5 nohead lw 0.5 dt 3 lc rgb 'gray'
}
plot for [i = 0 : arms - 1] ARG1 index i using 1:2:3:4 with xerrorbars \
       pt shape(i) ps 0.8 lw 1.6 lc rgb colour(i) title columnheader(1), \
     ARG2 using (NaN):1:ytic(stringcolumn(2)) notitle
