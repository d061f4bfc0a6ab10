module conversion-guard/forklift

go 1.22
